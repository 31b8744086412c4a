"""The contract between data and training: special token ids and the batch. It knows neither text nor models.

Legend: B batch, S source length, T target length.
"""

from typing import NamedTuple

from torch import Tensor

PAD_ID = 0
UNK_ID = 1
BOS_ID = 2
EOS_ID = 3


class Batch(NamedTuple):
    """One micro-batch of sentence pairs, padded at the end with `PAD_ID`."""

    source_BS: Tensor
    """Source pieces; every row ends with `EOS_ID` before the padding."""
    target_input_BT: Tensor
    """What the decoder reads: `BOS_ID` and the target pieces."""
    target_output_BT: Tensor
    """What the decoder must say: the target pieces and `EOS_ID`."""
    num_source_tokens: int
    """Tokens of `source_BS` that are not padding."""
    num_target_tokens: int
    """Tokens of `target_output_BT` that are not padding."""
    step_target_tokens: int
    """Target tokens of the whole optimizer step, over all ranks and micro-batches: the loss is divided by it."""
    step: int
    """The optimizer step that it belongs to, counted from 0."""
    micro_batch: int
    """Which of the step's micro-batches on this device it is, counted from 0."""


class TextBatch(NamedTuple):
    """A `Batch` for validation together with the raw text that its translations are scored against.

    Rows of `batch` beyond the text are filler, there to give every rank a batch.
    """

    batch: Batch
    indices: tuple[int, ...]
    """Where each sentence stands in the validation set."""
    sources: tuple[str, ...]
    references: tuple[str, ...]
