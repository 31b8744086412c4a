"""Sentences padded side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_transformer.batch import PAD_ID


def padded(sequences: Sequence[Sequence[int]]) -> Tensor:
    """One row a sequence, as long as the longest, filled up with `PAD_ID`."""
    longest = max(map(len, sequences))
    return torch.tensor([[*ids, *[PAD_ID] * (longest - len(ids))] for ids in sequences])


def too_many(source_BS: Tensor) -> str:
    """What to lower where a batch does not fit into memory, and what it has."""
    num_sentences, length = source_BS.shape
    return f"batch_tokens: these were {num_sentences} sentences of {length} pieces at a time"
