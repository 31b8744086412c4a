from pathlib import Path

import numpy as np
import pytest

from lit_transformer import Translator
from lit_transformer.analysis import alignment
from lit_transformer.analysis.alignment import CrossHead, When, align, best_head, count_by_head, links, word_maps
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.decoding.attention import Attention
from lit_transformer.errors import UserError
from lit_transformer.evaluation.alignment_error import GoldLinks, LinkCounts, count_links
from tests.helpers.vocabularies import with_renumbered_source

PAIRS = demo_pairs("train", num_pairs=31)
ENGLISH, GERMAN = [pair.english for pair in PAIRS], [pair.german for pair in PAIRS]
GOLD = [GoldLinks(frozenset(pair.alignment), frozenset()) for pair in PAIRS]


@pytest.fixture(scope="module")
def translator(tiny_run: Path) -> Translator:
    """In float64, where no two hypotheses come so close that a rounding decides between them."""
    translator = Translator.load(tiny_run)
    translator.transformer.double()
    return translator


def one_to_one() -> Attention:
    """`a bc`, the second word of two tokens, and `wx y z`, of two heads.

    Head 0 attends to the right word (1, 0, 0) in the row that predicts a word, head 1 in the row that reads it.
    """
    right = {"a": [1.0, 0.0, 0.0, 0.0], "bc": [0.0, 0.4, 0.5, 0.1], "</s>": [0.0, 0.0, 0.0, 1.0]}
    said = ["bc", "bc", "a", "a", "</s>"]
    read = ["</s>", *said[:-1]]
    cross = np.array([[right[word] for word in said], [right[word] for word in read]], np.float32)
    return Attention(
        source=["▁a", "▁b", "c", "</s>"],
        target_input=["<s>", "▁w", "x", "▁y", "▁z"],
        target_output=["▁w", "x", "▁y", "▁z", "</s>"],
        encoder={},
        decoder={},
        cross={3: cross, 5: cross[::-1]},
    )


@pytest.mark.parametrize(("when", "layer", "head"), [("said", 3, 0), ("said", 5, 1), ("read", 3, 1), ("read", 5, 0)])
def test_the_row_of_a_word_predicts_it_or_reads_it(when: When, layer: int, head: int) -> None:
    source, target = [range(1), range(1, 3)], [range(2), range(2, 3), range(3, 4)]
    maps = {maps.layer: maps for maps in word_maps(one_to_one(), when, source, target)}
    assert list(maps) == [3, 5]
    right, wrong, mean = maps[layer].weights_HTS[[head, 1 - head, 2]]
    np.testing.assert_allclose(right, [[0.0, 0.9], [1.0, 0.0], [1.0, 0.0]], rtol=1e-6)
    assert links(right) == {(1, 0), (0, 1), (0, 2)}
    assert links(wrong) != links(right)
    np.testing.assert_allclose(mean, (right + wrong) / 2, rtol=1e-6)


def test_words_without_tokens_have_no_links() -> None:
    maps = word_maps(one_to_one(), "said", [range(1), range(1, 1), range(1, 3)], [range(2), range(2, 2)])
    assert links(maps[0].weights_HTS[0]) == {(2, 0)}
    assert links(np.zeros((3, 0), np.float32)) == links(np.zeros((0, 3), np.float32)) == frozenset()


def test_counts_are_those_of_each_head_alone(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "PAIRS_AT_A_TIME", 7)
    by_head = count_by_head(translator, ENGLISH, GERMAN, GOLD)
    heads = [CrossHead(0, head, when) for when in ("said", "read") for head in (0, 1, None)]
    assert list(by_head) == heads
    assert len(set(by_head.values())) > 3
    one_by_one = Translator(translator.transformer, translator.tokenizer, batch_tokens=1)
    for at, counts in by_head.items():
        aligned = list(align(one_by_one, ENGLISH, GERMAN, at))
        assert count_links(aligned, GOLD) == counts
    assert by_head[best_head(by_head)].error_rate == min(counts.error_rate for counts in by_head.values())
    assert set(count_by_head(translator, ENGLISH, GERMAN, GOLD, layers=[0], moments=["read"])) == set(heads[3:])


def test_one_link_for_every_target_word(translator: Translator) -> None:
    for pair, aligned in zip(PAIRS, align(translator, ENGLISH, GERMAN, CrossHead(0, None, "said")), strict=True):
        assert sorted(target for _, target in aligned) == list(range(len(pair.german.split())))
        assert {source for source, _ in aligned} <= set(range(len(pair.english.split())))


def test_words_are_split_by_the_vocabulary_of_their_side(translator: Translator) -> None:
    own, at = with_renumbered_source(translator), CrossHead(0, None, "said")
    assert list(align(own, ENGLISH, GERMAN, at)) == list(align(translator, ENGLISH, GERMAN, at))


def test_white_space_and_empty_lines(translator: Translator) -> None:
    at = CrossHead(0, None, "said")
    expected = list(align(translator, ENGLISH[:2], GERMAN[:2], at))
    english = [ENGLISH[0].replace(" ", "\x85 "), "", "x", f" {ENGLISH[1]}\r", ""]
    german = [GERMAN[0], "x", "", GERMAN[1].replace(" ", "\u2028\t"), ""]
    assert list(align(translator, english, german, at)) == [
        expected[0],
        frozenset(),
        frozenset(),
        expected[1],
        frozenset(),
    ]
    assert list(align(translator, [], [], at)) == []


def test_best_of_nothing_but_ties_is_the_first() -> None:
    counts = LinkCounts(3, 3, 2, 2)
    assert best_head({CrossHead(1, 0, "said"): counts, CrossHead(0, None, "read"): counts}) == CrossHead(1, 0, "said")


@pytest.mark.parametrize(
    ("at", "message"),
    [
        (CrossHead(0, 2, "said"), r"^head 2 does not exist: the model has heads 0 to 1"),
        (CrossHead(0, -1, "said"), r"^head -1 does not exist"),
        (CrossHead(1, 0, "said"), r"^layer 1 does not exist: the model has layers 0 to 0"),
    ],
)
def test_heads_that_are_not_there(translator: Translator, at: CrossHead, message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(align(translator, ENGLISH, GERMAN, at))


def test_a_long_line_is_named(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "PAIRS_AT_A_TIME", 2)
    with pytest.raises(UserError, match=r"^line 3 has 1,\d+ tokens, .*1,023"):
        list(align(translator, ["a", "a", "x " * 600], ["a"] * 3, CrossHead(0, None, "said")))
