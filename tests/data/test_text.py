"""Text of a corpus: written to the cache when it is loaded, and then found there."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from lit_transformer.data.text import PAIR_SCHEMA, cached_text, sentences, split_names


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
