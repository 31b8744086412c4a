"""Text of a corpus: written to the cache when it is loaded, and then found there."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset

from lit_transformer.data.text import PAIR_SCHEMA, PairCounts, cached_text, count_pairs, sentences, split_names


def test_text_is_written_when_it_is_loaded_for_the_first_time(tmp_path: Path) -> None:
    calls = []

    def batches() -> Iterator[pa.RecordBatch]:
        calls.append(1)
        yield pa.record_batch([["a", "b"], ["c", "d"]], schema=PAIR_SCHEMA)
        yield pa.record_batch([["e"], ["f"]], schema=PAIR_SCHEMA)

    text = cached_text(tmp_path / "text" / "name.arrow", batches)
    assert text.fingerprint == "name"
    assert not calls
    for _ in range(2):
        assert list(sentences(text.load())) == ["a", "c", "b", "d", "e", "f"]
    assert len(calls) == 1


def test_pairs_are_counted() -> None:
    rows = [("a", "b"), ("", "b"), ("a", " \u2060\t"), ("", ""), ("a\nb", "c"), ("a", "\n"), ("\u2028a", "b\r")]
    pairs = Dataset.from_dict({"source": [row[0] for row in rows], "target": [row[1] for row in rows]})
    assert count_pairs(pairs) == PairCounts(num_pairs=7, num_empty=4, num_multiline=2)
    assert count_pairs(pairs.select(range(2, 3))) == PairCounts(num_pairs=1, num_empty=1, num_multiline=0)
    assert count_pairs(pairs.select([])) == PairCounts(0, 0, 0)


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", ("train",)),
        ("val", ("val", "valid", "validation", "dev")),
        ("valid", ("valid", "validation", "val", "dev")),
        ("validation", ("validation", "valid", "val", "dev")),
    ],
)
def test_validation_has_four_names(split: str, names: tuple[str, ...]) -> None:
    assert split_names(split) == names
