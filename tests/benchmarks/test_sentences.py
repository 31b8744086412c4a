"""The batches that all contestants have."""

from pathlib import Path

import numpy as np
import pytest

from lit_transformer.batch import EOS_ID, PAD_ID
from lit_transformer.benchmarks.sentences import (
    CORRELATION,
    LONGEST,
    MEANS,
    batches_of_corpus,
    draw_batches,
    draw_lengths,
    draw_sources,
    sources_of_corpus,
)


def test_lengths_are_those_of_wmt14() -> None:
    source, target = draw_lengths(100_000, seed=1)
    assert np.abs(np.mean(source) - MEANS[0]) < 0.5
    assert np.abs(np.mean(target) - MEANS[1]) < 0.5
    assert np.corrcoef(np.log(source), np.log(target))[0, 1] > CORRELATION - 0.02
    assert max(source.max(), target.max()) <= LONGEST
    assert min(source.min(), target.min()) >= 2


def test_batches_are_sentences_within_the_budget() -> None:
    batches = draw_batches(5, tokens_per_batch=400, vocab_size=50, seed=3)
    again = draw_batches(5, tokens_per_batch=400, vocab_size=50, seed=3)
    for sides, same in zip(batches, again, strict=True):
        for ids, expected in zip(sides, same, strict=True):
            assert np.array_equal(ids, expected)
            assert np.count_nonzero(ids) <= 400
            assert ids.max() < 50
            for row in ids:
                end = int(np.count_nonzero(row))
                assert row[end - 1] == EOS_ID
                assert (row[: end - 1] > EOS_ID).all()
                assert (row[end:] == PAD_ID).all()


def test_sources_of_a_batch_have_one_length() -> None:
    batches = draw_sources(7, batch_size=4, vocab_size=50, seed=3)
    assert [len(batch) for batch in batches] == [4] * 7
    assert all(len({len(ids) for ids in batch}) == 1 for batch in batches)
    assert len({len(batch[0]) for batch in batches}) > 3


def test_sources_of_a_corpus_are_in_the_models_vocabulary(tiny_run: Path) -> None:
    batches = sources_of_corpus("demo", 3, checkpoint=str(tiny_run), batch_size=5)
    assert [len(batch) for batch in batches] == [5] * 3
    for batch in batches:
        assert max(map(len, batch)) - min(map(len, batch)) <= 3
        assert all(ids[-1] == EOS_ID for ids in batch)


def test_batches_of_a_corpus_are_those_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_transformer.benchmarks.sentences.CACHE_DIR", str(tmp_path))
    batches = batches_of_corpus("copy", 2, source="en", target="de", tokens_per_batch=100, vocab_size=15)
    assert len(batches) == 2
    for source, target in batches:
        assert np.count_nonzero(source) <= 100
        assert source.shape[0] == target.shape[0]
