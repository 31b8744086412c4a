"""Token sequences as one padded batch.

Legend: B batch, S source length.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lit_transformer.batch import PAD_ID


def pad(sequences: Sequence[Sequence[int]]) -> Tensor:
    """One row per sequence, padded at the end with `PAD_ID` to the length of the longest one."""
    longest = max(map(len, sequences))
    return torch.tensor([[*ids, *[PAD_ID] * (longest - len(ids))] for ids in sequences])


def memory_remedy(source_BS: Tensor, *, lower: str) -> str:
    """What to do if a batch does not fit into memory: lower something, or `batch_tokens`."""
    num_sentences, length = source_BS.shape
    return f"lower {lower} or batch_tokens: the batch had {num_sentences} sentences of {length} tokens"
