"""The contract between data and training: special token ids and the batch. It knows neither text nor models.

Legend: B batch, S source length, T target length, L query length, C channels, H height, W width, X any
size.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_transformer.errors import UserError

PAD_ID = 0
UNK_ID = 1
BOS_ID = 2
EOS_ID = 3
NEVER_PREDICTED = (PAD_ID, UNK_ID, BOS_ID)
"""Tokens that no translation contains."""
NO_LABEL = -1
"""Stands for the class of an image that only fills a batch."""

VOCAB_SIZE = 37000
"""Tokens of the paper's shared vocabulary (section 5.1): the default of model and data."""
SEED = 1
"""The default of everything random."""

IntArray = NDArray[np.integer]
"""Token ids, lengths or row numbers."""


class PackedSide(NamedTuple):
    """Where the sentences of one side of a packed batch lie."""

    positions_1X: Tensor
    """The position of each token in its sentence, counted from 0. It is 0 in what fills the row."""
    borders_X: Tensor
    """Sentence i consists of the tokens from borders_X[i] to borders_X[i + 1], without the latter. 32 bits."""
    columns_X: Tensor
    """0, 1, ... to the length of the longest sentence pair's side."""


class Packing(NamedTuple):
    """How the single row of a packed batch is to be read. Sentence i of the source belongs to sentence i of the target.

    Sentences of padding tokens fill the row.
    """

    source: PackedSide
    target: PackedSide
    longest: int
    """No sentence of any batch of the run has more tokens."""


class Batch(NamedTuple):
    """One micro-batch of sentence pairs, padded at the end with `PAD_ID`. Or packed: then there is a single row."""

    source_BS: Tensor
    """Source tokens. Every row ends with `EOS_ID` before the padding."""
    target_input_BT: Tensor
    """Input of the decoder: `BOS_ID` and the target tokens."""
    target_output_BT: Tensor
    """What the decoder is trained to predict: the target tokens and `EOS_ID`."""
    num_source_tokens: int
    """Tokens of `source_BS` that are not padding."""
    num_target_tokens: int
    """Tokens of `target_output_BT` that are not padding."""
    step_target_tokens: int
    """Target tokens of the whole optimizer step, over all ranks and micro-batches. The loss is divided by it. If it is
    0, the batch belongs to no planned step: the loss is the mean over its own tokens."""
    step: int
    """The optimizer step of this micro-batch, counted from 0."""
    micro_batch: int
    """The number of this micro-batch within the step on this device, counted from 0."""
    packing: Packing | None = None
    """Where the sentences lie if all of them are in one row, one after the other. None if each has its own row."""

    @property
    def num_positions(self) -> int:
        """Tokens of `source_BS` and `target_output_BT`, padding included."""
        return self.source_BS.numel() + self.target_output_BT.numel()

    def __repr__(self) -> str:
        """Describe the batch by its shapes and numbers."""
        return _described(self)


class TokenBatch(NamedTuple):
    """One micro-batch of single sequences, one per row, for models of one stack. Padded at the end with `PAD_ID`."""

    input_BL: Tensor
    """What the model reads."""
    output_BL: Tensor
    """What the model is trained to predict at each position. `PAD_ID` where it predicts nothing."""
    num_source_tokens: int
    """Tokens of `input_BL` that are not padding."""
    num_target_tokens: int
    """Tokens of `output_BL` that are not padding."""
    step_target_tokens: int
    """As in `Batch`, like the next two."""
    step: int
    micro_batch: int

    @property
    def num_positions(self) -> int:
        """Positions of `input_BL`, padding included, and predicted tokens."""
        return self.input_BL.numel() + self.num_target_tokens

    def __repr__(self) -> str:
        """Describe the batch by its shapes and numbers."""
        return _described(self)


class ImageBatch(NamedTuple):
    """One micro-batch of images with their classes. An image counts as one token."""

    image_BCHW: Tensor
    label_B: Tensor
    """The class of each image, counted from 0. `NO_LABEL` for images that only fill the batch."""
    num_source_tokens: int
    """Images with a class."""
    num_target_tokens: int
    """The same number, because each of them has one class."""
    step_target_tokens: int
    """As in `Batch`, like the next two."""
    step: int
    micro_batch: int

    @property
    def num_positions(self) -> int:
        """Images and classes, those that only fill the batch included."""
        return 2 * len(self.label_B)

    def __repr__(self) -> str:
        """Describe the batch by its shapes and numbers."""
        return _described(self)


AnyBatch = Batch | TokenBatch | ImageBatch
"""A micro-batch of any task. All have the numbers that a training step needs."""


def _described(batch: AnyBatch) -> str:
    """Describe a batch by its shapes and numbers."""
    described = (
        f"{name}={' x '.join(map(str, value.shape)) if isinstance(value, Tensor) else value}"
        for name, value in zip(batch._fields, batch, strict=True)
        if name != "packing"
    )
    return f"{type(batch).__name__}({', '.join(described)})"


class TextBatch(NamedTuple):
    """A `Batch` for validation together with the raw text that its translations are scored against.

    Rows of `batch` beyond the text are filler. They give every rank a batch.
    """

    batch: Batch
    indices: tuple[int, ...]
    """Position of each sentence in the validation set."""
    sources: tuple[str, ...]
    references: tuple[str, ...]


class RestoredBatch(NamedTuple):
    """A batch for validation together with the positions at which a model restores tokens that it cannot read."""

    batch: Batch | TokenBatch
    restored: Tensor
    """Which positions of the output these are."""


def ids_of(batch: object) -> Batch:
    """The ids of a batch with or without text.

    Raises:
        UserError: If it is not a batch.
    """
    if isinstance(batch, TextBatch):
        return batch.batch
    if not isinstance(batch, Batch):
        raise UserError(
            f"the loader gives {type(batch).__name__}: it must give `Batch` (make_batch makes one from padded ids, and "
            "vocabularies.batch from sentence pairs) or, for predict, lists of texts"
        )
    return batch


def pad(sequences: Sequence[Sequence[int]]) -> IntArray:
    """Return one row per sequence, padded at the end with `PAD_ID` to the length of the longest sequence."""
    longest = max(map(len, sequences))
    return np.array([[*ids, *[PAD_ID] * (longest - len(ids))] for ids in sequences], dtype=np.int64)


def make_batch(
    source_BS: IntArray, target_BT: IntArray, *, step_target_tokens: int = 0, step: int = 0, micro_batch: int = 0
) -> Batch:
    """Make a batch for teacher forcing: the decoder's input is its output moved one position to the right.

    Args:
        source_BS: Source tokens with `EOS_ID`, padded.
        target_BT: Target tokens with `EOS_ID`, padded.
        step_target_tokens: Target tokens of the whole optimizer step. 0 if no plan makes the steps.
        step: The optimizer step, counted from 0.
        micro_batch: The number of this micro-batch within the step, counted from 0.
    """
    begin_B1 = np.full((len(target_BT), 1), BOS_ID, dtype=target_BT.dtype)
    # In a shorter row, the input keeps its `EOS_ID`. The output there is padding, so nothing is predicted from it.
    target_input_BT = np.concatenate([begin_B1, target_BT[:, :-1]], axis=1)
    return Batch(
        torch.from_numpy(source_BS),
        torch.from_numpy(target_input_BT),
        torch.from_numpy(target_BT),
        int(np.count_nonzero(source_BS != PAD_ID)),
        int(np.count_nonzero(target_BT != PAD_ID)),
        step_target_tokens,
        step,
        micro_batch,
    )


def filler_row() -> tuple[IntArray, IntArray]:
    """Return the source and target of one row without a token to predict, for a rank that has no sentences."""
    return np.full((1, 1), EOS_ID), np.full((1, 1), PAD_ID)


def make_token_batch(
    input_BL: IntArray, output_BL: IntArray, *, step_target_tokens: int = 0, step: int = 0, micro_batch: int = 0
) -> TokenBatch:
    """Make a batch of single sequences.

    Args:
        input_BL: What the model reads, padded.
        output_BL: What it predicts. `PAD_ID` where it predicts nothing.
        step_target_tokens: As in `make_batch`, like the next two.
        step: The optimizer step.
        micro_batch: The number of this micro-batch within the step.
    """
    return TokenBatch(
        torch.from_numpy(input_BL),
        torch.from_numpy(output_BL),
        int(np.count_nonzero(input_BL != PAD_ID)),
        int(np.count_nonzero(output_BL != PAD_ID)),
        step_target_tokens,
        step,
        micro_batch,
    )
