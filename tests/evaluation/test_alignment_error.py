"""Word alignments: read, written, and scored as the paper of the metric defines."""

import random
from pathlib import Path

import pytest

from lit_transformer.errors import UserError
from lit_transformer.evaluation.alignment_error import (
    GoldLinks,
    LinkCounts,
    Links,
    check_gold,
    count_links,
    read_gold,
    to_pharaoh,
)

NONE: Links = frozenset()


def links(*pairs: tuple[int, int]) -> Links:
    return frozenset(pairs)


def test_counts_and_scores_by_hand() -> None:
    gold = [GoldLinks(links((0, 0), (1, 2)), links((1, 1), (2, 1))), GoldLinks(links((0, 0)), NONE)]
    # The first pair has one sure, one possible and one wrong link. The second has none.
    predicted = [links((0, 0), (1, 1), (3, 3)), NONE]
    counts = count_links(predicted, gold)
    assert counts == LinkCounts(predicted=3, sure=3, predicted_sure=1, predicted_possible=2)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.recall == pytest.approx(1 / 3)
    assert counts.error_rate == pytest.approx(1 - (1 + 2) / (3 + 3))


def test_a_perfect_alignment_has_no_error() -> None:
    gold = [GoldLinks(links((0, 0), (1, 2)), links((2, 2)))]
    for perfect in (gold[0].sure, gold[0].sure | gold[0].possible):
        counts = count_links([perfect], gold)
        assert (counts.precision, counts.recall, counts.error_rate) == (1.0, 1.0, 0.0)
    nothing = count_links([NONE], gold)
    assert (nothing.precision, nothing.recall, nothing.error_rate) == (0.0, 0.0, 1.0)


def test_without_possible_links_it_is_one_minus_f1() -> None:
    random.seed(7)
    cells = [(i, j) for i in range(5) for j in range(7)]
    for _ in range(20):
        counts = count_links([links(*random.sample(cells, 9))], [GoldLinks(links(*random.sample(cells, 8)), NONE)])
        if counts.predicted_sure:
            f1 = 2 * counts.precision * counts.recall / (counts.precision + counts.recall)
            assert counts.error_rate == pytest.approx(1 - f1)


def test_nothing_to_score() -> None:
    with pytest.raises(UserError, match="no sure link"):
        _ = count_links([NONE], [GoldLinks(NONE, links((0, 0)))]).error_rate


def test_links_are_read(tmp_path: Path) -> None:
    file = tmp_path / "gold"
    file.write_bytes(b"0-0 2p1  1-0\r\n\n0p0 0-0 0-0\n")
    assert read_gold(file) == [
        GoldLinks(links((0, 0), (1, 0)), links((2, 1))),
        GoldLinks(NONE, NONE),
        GoldLinks(links((0, 0)), NONE),
    ]
    file.write_bytes(b"1-1 3p2")
    assert read_gold(file, first_word=1) == [GoldLinks(links((0, 0)), links((2, 1)))]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    predicted = links((10, 2), (2, 10), (2, 9), (0, 0))
    assert to_pharaoh(predicted) == "0-0 2-9 2-10 10-2"
    (tmp_path / "links").write_text(to_pharaoh(predicted) + "\n" + to_pharaoh(NONE) + "\n")
    assert read_gold(tmp_path / "links") == [GoldLinks(predicted, NONE), GoldLinks(NONE, NONE)]


@pytest.mark.parametrize(
    ("text", "first_word", "message"),
    [
        (b"0-0\n0-0 1_1\n", 0, r"/gold:2: '1_1' .*i-j .*ipj"),
        (b"-1-0", 0, r"/gold:1: '-1-0' .*i-j"),
        (b"0--1", 0, r"/gold:1: '0--1' .*i-j"),
        (b"0\xe2\x80\x931", 0, r"/gold:1: '0–1' .*i-j"),
        (b"0-\xb2", 0, r"/gold:1: .* .*i-j"),
        ("0-²".encode(), 0, r"/gold:1: '0-²' .*i-j"),
        (b"1-1 0-1", 1, r"/gold:1: '0-1' has a word 0, .* 1\b"),
    ],
)
def test_gold_that_cannot_be_read(text: bytes, first_word: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "gold").write_bytes(text)
    with pytest.raises(UserError, match=message):
        read_gold(tmp_path / "gold", first_word=first_word)


def test_missing_gold(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^cannot read .*/nowhere: No such file"):
        read_gold(tmp_path / "nowhere")


def test_gold_of_another_text() -> None:
    gold = [GoldLinks(links((0, 0)), NONE), GoldLinks(links((0, 1)), links((1, 2)))]
    check_gold(gold, ["a", "a b"], ["x", "x y z"], "gold")
    with pytest.raises(UserError, match=r"^gold:2: .* 1 and 2 .* 3 and 1 words"):
        check_gold(gold, ["a", "a b c"], ["x", "x"], "gold")
    with pytest.raises(UserError, match=r"^gold:2: .* 2 and 3 .* 1 and 3 words"):
        check_gold(gold, ["a", "a"], ["x", "x y z"], "gold")
    with pytest.raises(UserError, match=r"^gold has 2 .* 1 "):
        check_gold(gold, ["a"], ["x"], "gold")


def test_hansards(shared_data: Path) -> None:
    """The counts that its publishers give, and scores that follow from them."""
    folder = shared_data / "hansards_gold_alignments"
    english, french = ((folder / name).read_text(encoding="utf-8").split("\n")[:-1] for name in ("test.en", "test.fr"))
    gold = read_gold(folder / "test.talp", first_word=1)
    check_gold(gold, english, french, folder / "test.talp")
    assert len(gold) == 447
    assert sum(len(pair.sure) for pair in gold) == 4038
    assert sum(len(pair.possible) for pair in gold) == 13400
    assert count_links([pair.sure for pair in gold], gold).error_rate == 0.0
    assert count_links([pair.sure | pair.possible for pair in gold], gold).error_rate == 0.0
    only_possible = count_links([pair.possible for pair in gold], gold)
    assert only_possible.error_rate == pytest.approx(1 - 13400 / (13400 + 4038))
    sizes = [(len(source.split()), len(target.split())) for source, target in zip(english, french, strict=True)]
    every = count_links([links(*((i, j) for i in range(m) for j in range(n))) for m, n in sizes], gold)
    cells = sum(m * n for m, n in sizes)
    assert every.recall == 1.0
    assert every.precision == pytest.approx(17438 / cells)
    assert every.error_rate == pytest.approx(1 - (4038 + 17438) / (cells + 4038))
    with pytest.raises(UserError, match=r"test\.talp:\d+: "):
        check_gold(read_gold(folder / "test.talp"), english, french, folder / "test.talp")
