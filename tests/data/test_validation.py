"""Every validation sentence is in one batch of one rank."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, TextBatch, make_batch
from lit_transformer.data.validation import ValidationBatches, text_filler, validation_batches
from lit_transformer.data.vocabularies import Vocabularies


def text_batch(*indices: int) -> TextBatch:
    source, target = np.full((len(indices), 2), 5), np.full((len(indices), 3), 7)
    texts = tuple(f"text {index}" for index in indices)
    return TextBatch(make_batch(source, target), indices, texts, texts)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 7])
def test_each_sentence_is_on_one_rank_and_all_ranks_have_equally_many_batches(world_size: int) -> None:
    batches = [text_batch(4, 1), text_batch(0), text_batch(3, 2, 6), text_batch(5), text_batch(8, 7)]
    ranks = [ValidationBatches(batches, rank, world_size, filler=text_filler) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {len(list(rank)) for rank in ranks} == {-(-5 // world_size)}
    seen = [batch for rank in ranks for batch in rank]
    assert sorted(index for batch in seen for index in batch.indices) == list(range(9))
    for batch in seen:
        assert len(batch.references) == len(batch.sources) == len(batch.indices)
        if not batch.indices:
            assert batch.batch.num_target_tokens == 0
            assert (batch.batch.source_BS != PAD_ID).all()
    assert sum(batch.batch.num_target_tokens for batch in seen) == 9 * 3


_LETTERS: Any = SimpleNamespace(encode=lambda texts: [[ord(letter) for letter in text] for text in texts])
LETTERS = Vocabularies.shared(_LETTERS)
"""Tokens are letters."""


def real(rows: torch.Tensor) -> list[list[int]]:
    return [[token for token in row if token != PAD_ID] for row in rows.tolist()]


def test_validation_batches_are_bounded_on_both_sides() -> None:
    """Whichever side is longer."""
    random = np.random.default_rng(1)
    sources, targets = (["a" * int(length) for length in random.integers(1, 60, 300)] for _ in range(2))
    targets[7], sources[11] = "b" * 938, "b" * 700
    texts = sources, targets
    batches, num_cut = validation_batches(sources, targets, LETTERS, 500)
    assert num_cut == 0
    assert sorted(index for batch in batches for index in batch.indices) == list(range(300))
    for batch in batches:
        for side, ids in enumerate((batch.batch.source_BS, batch.batch.target_output_BT)):
            assert ids.numel() <= 500 or len(ids) == 1
            expected = [[*map(ord, texts[side][index]), EOS_ID] for index in batch.indices]
            assert real(ids) == expected
        assert [batch.sources, batch.references] == [tuple(side[i] for i in batch.indices) for side in texts]
    assert len(batches) < 1.3 * sum(len(text) + 1 for text in texts[0]) / 500 + 30


def test_validation_sentences_beyond_the_last_position_are_cut() -> None:
    sources, references = ["abcdef", "abcde", "ab"], ["ab", "abcdefg", "abc"]
    batches, num_cut = validation_batches(sources, references, LETTERS, 100, longest=6)
    assert num_cut == 2
    [batch] = batches
    rows = dict(zip(batch.indices, zip(*map(real, batch.batch[:3]), strict=True), strict=True))
    a, b, c, d, e, f = map(ord, "abcdef")
    assert rows[0] == ([a, b, c, d, e, EOS_ID], [BOS_ID, a, b, EOS_ID], [a, b, EOS_ID])
    assert rows[1] == ([a, b, c, d, e, EOS_ID], [BOS_ID, a, b, c, d, e], [a, b, c, d, e, f])
    assert batch.references == tuple(references[index] for index in batch.indices), "BLEU needs the whole reference"
