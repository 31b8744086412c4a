"""Training objectives of text: what a model reads and predicts, made from a row of tokens. Pure functions in NumPy.

A row is a sentence with its final `EOS_ID`, or a block of many. The numbers of tokens that are read and predicted
depend on the row's length alone, so a plan knows them beforehand. The caller gives the random generator of a row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, IntArray, make_batch, make_token_batch
from lit_transformer.errors import UserError

MASK = "<mask>"
"""Stands for one hidden token (BERT) or for a span of them (BART)."""
BoolArray = NDArray[np.bool_]


class Ids(NamedTuple):
    """The ids that objectives need."""

    symbols: IntArray
    """Those of the objective's symbols, in their order."""
    ordinary: IntArray
    """Those of all tokens of text."""


class Example(NamedTuple):
    """What a model learns from a row."""

    input: IntArray
    """What it reads. If it has an encoder and a decoder, the encoder reads it."""
    output: IntArray
    """What it predicts. `PAD_ID` where it predicts nothing."""
    restored: BoolArray
    """Which positions of the output are tokens that the input hides."""
    hidden: BoolArray
    """Which tokens of the row these are."""


class Objective(Protocol):
    """From rows of tokens to examples."""

    make: ClassVar[Callable[..., Any]]
    """Makes a batch of padded inputs and outputs."""
    takes_blocks: ClassVar[bool]
    """Whether rows are blocks of many lines. Then nothing is hidden, so nothing is restored."""

    def symbols(self, longest: int) -> tuple[str, ...]:
        """Return the symbols that the vocabulary must have for rows of at most this length."""

    def lengths(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Return the tokens of inputs, at most, and of outputs, padding included, for rows of these lengths."""

    def num_predicted(self, rows: IntArray) -> IntArray:
        """Return the tokens that are predicted, for rows of these lengths."""

    def example(self, row: IntArray, ids: Ids, random: np.random.Generator) -> Example:
        """Return what a model learns from a row."""


@dataclass(frozen=True)
class CausalLM:
    """Predict every token from those before it (GPT).

    Rows are blocks of a text whose sentences follow each other. Each block begins with the token before its first one.
    A sentence begins with `BOS_ID` where a model reads it, and ends with `EOS_ID` where a model predicts it, as if it
    stood alone. Attention crosses the borders of sentences, as in GPT-2.
    """

    make: ClassVar[Callable[..., Any]] = staticmethod(make_token_batch)
    takes_blocks: ClassVar[bool] = True

    def symbols(self, longest: int) -> tuple[str, ...]:
        return ()

    def lengths(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        lengths = rows - 1  # one array: a row is one sequence
        return lengths, lengths

    def num_predicted(self, rows: IntArray) -> IntArray:
        return rows - 1

    def example(self, row: IntArray, ids: Ids, random: np.random.Generator) -> Example:
        nothing = np.zeros(len(row), bool)
        return Example(np.where(row == EOS_ID, BOS_ID, row)[:-1], row[1:], nothing[1:], nothing)


@dataclass(frozen=True)
class MaskedLM:
    """Predict some tokens from all others (BERT).

    Of the chosen tokens, 80 % are hidden behind `<mask>`, 10 % are replaced by any token, and 10 % stay.

    Args:
        mask_share: Share of the tokens that are chosen, at least one per row.
    """

    mask_share: float = 0.15
    make: ClassVar[Callable[..., Any]] = staticmethod(make_token_batch)
    takes_blocks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_noise(self.mask_share)

    def symbols(self, longest: int) -> tuple[str, ...]:
        return (MASK,)

    def lengths(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        lengths = rows + 1
        return lengths, lengths

    def num_predicted(self, rows: IntArray) -> IntArray:
        return _num_hidden(rows - 1, self.mask_share)

    def example(self, row: IntArray, ids: Ids, random: np.random.Generator) -> Example:
        chosen = random.permutation(len(row) - 1)[: int(self.num_predicted(np.array(len(row))))]
        kind = random.random(len(chosen))
        others = ids.ordinary[random.integers(len(ids.ordinary), size=len(chosen))]
        noised, predicted = row.copy(), np.full_like(row, PAD_ID)
        noised[chosen] = np.where(kind < 0.8, ids.symbols[0], np.where(kind < 0.9, others, row[chosen]))
        predicted[chosen] = row[chosen]
        hidden = np.zeros(len(row), bool)
        hidden[chosen[kind < 0.8]] = True
        begin = np.array([BOS_ID]), np.array([PAD_ID]), np.array([False])
        read, output, restored = map(np.concatenate, zip(begin, (noised, predicted, hidden), strict=True))
        return Example(read, output, restored, hidden)


@dataclass(frozen=True)
class TextInfilling:
    """Restore a text in which spans are hidden, each behind one `<mask>` (BART).

    A span may be empty: then a `<mask>` hides nothing. A row has at most as many spans as hidden tokens.

    Args:
        mask_share: Share of the tokens that are hidden, at least one per row.
        mean_span: Mean of the Poisson distribution of the lengths of spans.
    """

    mask_share: float = 0.3
    mean_span: float = 3.0
    make: ClassVar[Callable[..., Any]] = staticmethod(make_batch)
    takes_blocks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_noise(self.mask_share, self.mean_span)

    def symbols(self, longest: int) -> tuple[str, ...]:
        return (MASK,)

    def lengths(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        return rows, rows

    def num_predicted(self, rows: IntArray) -> IntArray:
        return rows

    def example(self, row: IntArray, ids: Ids, random: np.random.Generator) -> Example:
        size = len(row) - 1
        num_hidden = int(_num_hidden(np.array(size), self.mask_share))
        spans = random.poisson(self.mean_span, num_hidden)
        spans = spans[: int(np.searchsorted(spans.cumsum(), num_hidden)) + 1]
        spans[-1] += num_hidden - spans.sum()
        spans = random.permutation(spans)  # the last one is shorter than the others
        num_kept = size - num_hidden
        places = np.sort(random.permutation(num_kept + len(spans))[: len(spans)])
        noised, hidden = _hide(row, places, spans, np.full(len(spans), ids.symbols[0]))
        return Example(noised, row, hidden, hidden)


@dataclass(frozen=True)
class SpanCorruption:
    """Predict the spans that are hidden, each behind a sentinel of its own (T5).

    The output is each sentinel with the tokens that it hides, and one more sentinel. All numbers and places of spans
    are equally probable that leave at least one token between two spans.

    Args:
        mask_share: Share of the tokens that are hidden, at least one per row.
        mean_span: Mean length of the spans of a row.
    """

    mask_share: float = 0.15
    mean_span: float = 3.0
    make: ClassVar[Callable[..., Any]] = staticmethod(make_batch)
    takes_blocks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_noise(self.mask_share, self.mean_span)

    def symbols(self, longest: int) -> tuple[str, ...]:
        most = int(self._numbers(np.arange(2, longest + 1))[1].max()) + 1
        return tuple(f"<extra_id_{number}>" for number in range(most))

    def lengths(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        num_hidden, num_spans = self._numbers(rows)
        return rows - num_hidden + num_spans, self.num_predicted(rows)

    def num_predicted(self, rows: IntArray) -> IntArray:
        num_hidden, num_spans = self._numbers(rows)
        return num_hidden + num_spans + 2

    def example(self, row: IntArray, ids: Ids, random: np.random.Generator) -> Example:
        num_hidden, num_spans = (int(number) for number in self._numbers(np.array(len(row))))
        cuts = np.sort(random.permutation(num_hidden - 1)[: num_spans - 1]) + 1
        spans = np.diff(cuts, prepend=0, append=num_hidden)
        num_kept = len(row) - 1 - num_hidden
        places = np.sort(random.permutation(num_kept + 1)[:num_spans]) + np.arange(num_spans)
        noised, hidden = _hide(row, places, spans, ids.symbols[:num_spans])
        ends = np.append(0, spans.cumsum())
        output = np.append(np.insert(row[hidden], ends, ids.symbols[: num_spans + 1]), EOS_ID)
        restored = np.append(np.insert(np.ones(num_hidden, bool), ends, False), False)
        return Example(noised, output, restored, hidden)

    def _numbers(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Return the numbers of hidden tokens and of spans, for rows of these lengths."""
        num_hidden = _num_hidden(rows - 1, self.mask_share)
        num_spans = np.rint(num_hidden / self.mean_span).astype(np.int64).clip(1, rows - num_hidden)
        return num_hidden, num_spans


def _num_hidden(sizes: IntArray, share: float) -> IntArray:
    """Return the number of tokens that noise concerns, for texts of these sizes."""
    return np.rint(share * sizes).astype(np.int64).clip(min=1)


def _hide(row: IntArray, places: IntArray, spans: IntArray, symbols: IntArray) -> tuple[IntArray, BoolArray]:
    """Replace spans of a row by symbols.

    Args:
        row: The tokens.
        places: Where the symbols stand in the result.
        spans: How many tokens each of them replaces. The other tokens stay.
        symbols: The symbols.

    Returns:
        The result, and which tokens of the row are hidden.
    """
    sizes = np.ones(len(row) - int(spans.sum()) + len(spans), np.int64)
    sizes[places] = spans
    is_symbol = np.zeros(len(sizes), bool)
    is_symbol[places] = True
    noised = np.empty(len(sizes), row.dtype)
    hidden = np.repeat(is_symbol, sizes)
    noised[~is_symbol] = row[~hidden]
    noised[places] = symbols
    return noised, hidden


def _check_noise(mask_share: float, mean_span: float = 1.0) -> None:
    if not 0.0 < mask_share < 1.0:
        raise UserError(f"mask_share is {mask_share}: it must be above 0 and below 1")
    if mean_span < 1.0:
        raise UserError(f"mean_span is {mean_span}: it must be at least 1")
