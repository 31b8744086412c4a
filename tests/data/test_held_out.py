"""Validation pairs out of the training pairs: never in both, and the same ones whatever the order."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_transformer.data.held_out import hold_out
from lit_transformer.data.text import Text
from lit_transformer.data.text_folder import find_text_folder
from lit_transformer.errors import UserError
from tests.helpers.corpora import write_folder

Pair = tuple[str, str]


def text_of(pairs: list[Pair], folder: Path) -> Text:
    files: dict[str, str | bytes] = {
        f"train.{language}": "".join(f"{pair[side]}\n" for pair in pairs) for side, language in enumerate(("en", "de"))
    }
    write_folder(folder, files)
    return find_text_folder(folder, split="train", source="en", target="de", cache_dir=folder / "cache")


def split(pairs: list[Pair], number: int, folder: Path) -> tuple[list[Pair], list[Pair]]:
    parts = hold_out(text_of(pairs, folder), number, cache_dir=folder / "cache")
    training, validation = (list(zip(*text.load()[:].values(), strict=True)) for text in parts)
    return training, validation


def key(source: str) -> str:
    return " ".join(source.casefold().split())


@settings(max_examples=30)
@given(
    pairs=st.lists(st.tuples(st.sampled_from(["a", "A", "b", "c", "d", "e", "f"] + [""]), st.sampled_from("xyz "))),
    number=st.integers(1, 9),
    rotation=st.integers(0, 99),
)
def test_nothing_is_lost_or_in_both_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[Pair], number: int, rotation: int
) -> None:
    pairs = [*pairs, *((f"one {i}", "x") for i in range(10))]
    training, validation = split(pairs, number, tmp_path_factory.mktemp("text"))
    assert Counter(training) + Counter(validation) == Counter(pairs)
    assert len(validation) == number
    trained = {key(source) for source, target in training if target.strip()}
    assert not trained & {key(source) for source, _ in validation}
    assert all(source.strip() and target.strip() for source, target in validation)
    rows = iter(pairs)
    assert all(pair in rows for pair in validation)  # the order of the corpus
    random.Random(rotation).shuffle(pairs)
    assert Counter(split(pairs, number, tmp_path_factory.mktemp("text"))[1]) == Counter(validation)


def test_case_and_spaces_make_no_other_source(tmp_path: Path) -> None:
    pairs = [(source, "x") for i in range(50) for source in (f"ein satz {i}", f"Ein Satz {i}", f"ein  satz {i}")]
    training, validation = ({key(source) for source, _ in part} for part in split(pairs, 60, tmp_path))
    assert (len(training), len(validation)) == (30, 20)


def test_the_cache_knows_the_number_and_the_text(tmp_path: Path) -> None:
    text = text_of([(f"{i}", "x") for i in range(50)], tmp_path)
    parts = [part for number in (3, 4) for part in hold_out(text, number, cache_dir=tmp_path / "cache")]
    assert [len(part.load()) for part in parts] == [47, 3, 46, 4]
    assert len({part.fingerprint for part in (text, *parts)}) == 5
    assert [part.fingerprint for part in hold_out(text, 3, cache_dir=tmp_path / "cache")] == [
        part.fingerprint for part in parts[:2]
    ]


@pytest.mark.parametrize(("number", "named"), [(6, "6.*5"), (2, "2")])
def test_a_number_that_does_not_fit(number: int, named: str, tmp_path: Path) -> None:
    parts = hold_out(text_of([*[("a", "x")] * 5, ("b", "")], tmp_path), number, cache_dir=tmp_path / "cache")
    for part in parts:
        with pytest.raises(UserError, match=f"valid_pairs is {named}"):
            part.load()


def test_held_out_captions(shared_data: Path, tmp_path: Path) -> None:
    """Real captions have sources that occur more than once."""
    text = find_text_folder(
        shared_data / "multi30k", split="train", source="en", target="de", cache_dir=tmp_path / "cache"
    )
    training, validation = (part.load()[:] for part in hold_out(text, 1000, cache_dir=tmp_path / "cache"))
    assert [len(part["source"]) for part in (training, validation)] == [28_000, 1000]
    assert not set(map(key, training["source"])) & set(map(key, validation["source"]))
