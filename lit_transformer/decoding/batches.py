"""Sentences of similar length, padded side by side."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lit_transformer.batch import PAD_ID


def batches_by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of sentences of similar length, longest first, each batch within its padded size."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def padded(sequences: Sequence[Sequence[int]]) -> Tensor:
    """One row a sequence, as long as the longest, filled up with `PAD_ID`."""
    longest = max(map(len, sequences))
    return torch.tensor([[*ids, *[PAD_ID] * (longest - len(ids))] for ids in sequences])


def too_many(source_BS: Tensor) -> str:
    """What to lower where a batch does not fit into memory, and what it has."""
    num_sentences, length = source_BS.shape
    return f"batch_tokens: these were {num_sentences} sentences of {length} pieces at a time"
