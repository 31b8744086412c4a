"""What a run trains on, validates with and may be tested with."""

from pathlib import Path
from typing import Any

import pytest

from lit_transformer.data.splits import Splits, find_splits
from lit_transformer.data.text import Text
from lit_transformer.errors import UserError
from tests.helpers.corpora import write_folder


def find(corpus: str | Path, place: Path, **settings: Any) -> Splits:
    defaults: dict[str, Any] = {"valid_corpus": None, "valid_pairs": 0, "source": "en", "target": "de"}
    return find_splits(str(corpus), cache_dir=place / "cache", **(defaults | settings))


def sources(text: Text | None) -> list[str] | None:
    return None if text is None else list(text.load()["source"])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with three splits, one with `train` alone, a table, and pairs of files."""
    splits = {
        f"{split}.{language}": f"{split}\n" * 3 for split in ("train", "valid", "test") for language in ("en", "de")
    }
    write_folder(tmp_path / "all", {**splits})
    write_folder(tmp_path / "train_only", {"train.en": "a\nb\nc\n", "train.de": "x\ny\nz\n"})
    write_folder(
        tmp_path, {"pairs.tsv": "en\tde\none\tein\ntwo\tzwei\nthree\tdrei\n", "dev.en": "dev\n", "dev.de": "dev\n"}
    )
    return tmp_path


def test_a_test_set_without_references(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Such as the one of a shared task. Training needs no test set."""
    write_folder(
        place / "blind", {"train.csv": "en,de\na,x\n", "valid.csv": "en,de\nb,y\n", "test.csv": "id,en\n1,c\n"}
    )
    assert [sources(text) for text in find(place / "blind", place)] == [["a"], ["b"], None]
    note = capsys.readouterr().err
    assert note.startswith("note: ")
    assert "target is de" in note
    assert "test.csv" in note
    (place / "blind" / "valid.csv").write_text("id,en\n1,c\n")
    with pytest.raises(UserError, match=r"target is de, .*valid\.csv"):
        sources(find(place / "blind", place).valid)


def test_the_splits_of_a_folder(place: Path) -> None:
    assert [sources(text) for text in find(place / "all", place)] == [["train"] * 3, ["valid"] * 3, ["test"] * 3]


@pytest.mark.parametrize(("valid_corpus", "expected"), [("dev", ["dev"]), ("all", ["valid"] * 3)])
def test_validation_pairs_of_another_corpus(valid_corpus: str, expected: list[str], place: Path) -> None:
    for corpus, test in (("pairs.tsv", None), ("train_only", None), ("all", ["test"] * 3)):
        splits = find(place / corpus, place, valid_corpus=str(place / valid_corpus))
        assert sources(splits.valid) == expected
        assert sources(splits.test) == test


def test_held_out_pairs_of_any_corpus(place: Path) -> None:
    for corpus in ("pairs.tsv", "train_only"):
        splits = find(place / corpus, place, valid_pairs=1)
        assert splits.test is None
        training, validation = (sources(text) or [] for text in splits[:2])
        assert (len(training), len(validation)) == (2, 1)
        assert not set(training) & set(validation)
    demo = find("demo:100", place, valid_pairs=10)
    assert (len(demo.train.load()), len(demo.valid.load())) == (90, 10)


@pytest.mark.parametrize("corpus", ["pairs.tsv", "train_only", "dev", "wmt14"])
def test_no_validation_pairs_is_an_error_with_the_remedies(corpus: str, place: Path) -> None:
    write_folder(place / "wmt14", {"train.tsv": "en\tde\na\tx\n"})
    with pytest.raises(UserError, match=f"{corpus}.* valid_pairs .* valid_corpus"):
        find(place / corpus, place)


def test_two_sources_of_validation_pairs_are_a_mistake(place: Path) -> None:
    with pytest.raises(UserError, match=r"valid_pairs is 2.* valid_corpus is .*dev"):
        find(place / "all", place, valid_corpus=str(place / "dev"), valid_pairs=2)
