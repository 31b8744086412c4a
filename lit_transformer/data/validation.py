"""Batches of a whole validation or test set, shared among the ranks."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from lit_transformer.batch import EOS_ID, TextBatch, filler_row, make_batch, pad
from lit_transformer.data.batching import batches_by_length
from lit_transformer.data.vocabularies import Vocabularies

Kind = TypeVar("Kind")


def validation_batches(
    sources: Sequence[str],
    references: Sequence[str],
    vocabularies: Vocabularies,
    batch_tokens: int,
    *,
    longest: int | None = None,
    cut: Callable[[Sequence[int], int], Iterator[list[int]]] = batches_by_length,
) -> tuple[list[TextBatch], int]:
    """Make batches of at most `batch_tokens` padded tokens on either side. By default, the longest come first.

    A sentence with more than `longest` tokens is cut. A cut source keeps its EOS. A cut target has none, because the
    text does not end there. The references that BLEU reads stay whole.

    Returns:
        The batches, and the number of sentence pairs that were cut.
    """
    most = sys.maxsize if longest is None else longest
    source_ids, target_ids = vocabularies.source.encode(list(sources)), vocabularies.target.encode(list(references))
    lengths = [1 + max(map(len, pair)) for pair in zip(source_ids, target_ids, strict=True)]
    batches = []
    for indices in cut([min(length, most) for length in lengths], batch_tokens):
        batch = make_batch(
            pad([[*source_ids[index][: most - 1], EOS_ID] for index in indices]),
            pad([[*target_ids[index], EOS_ID][:most] for index in indices]),
        )
        texts = (tuple(texts[index] for index in indices) for texts in (sources, references))
        batches.append(TextBatch(batch, tuple(indices), *texts))
    return batches, sum(length > most for length in lengths)


def batches_in_order(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Yield batches of consecutive indices, as `batches_by_length` yields batches of similar length."""
    batch: list[int] = []
    longest = 0
    for index, length in enumerate(lengths):
        longest = max(longest, length)
        if batch and (len(batch) + 1) * longest > batch_tokens:
            yield batch
            batch, longest = [], length
        batch.append(index)
    if batch:
        yield batch


def text_filler() -> TextBatch:
    """Return a batch without text, for a rank that has no other."""
    return TextBatch(make_batch(*filler_row()), (), (), ())


class ValidationBatches(Generic[Kind]):
    """The batches of one rank: every world_size-th of all.

    All ranks get the same number of batches, so the last one of a rank may be filler.

    Args:
        batches: The batches of all ranks, the longest sentences first.
        rank: The rank, counted from 0.
        world_size: Number of ranks.
        limit: The batches of a rank that a trainer takes from the first on, or their share if it is not an integer.
            They are evenly spaced over all lengths.
        filler: Makes a batch without rows.
    """

    def __init__(
        self, batches: list[Kind], rank: int, world_size: int, limit: int | float = 1.0, *, filler: Callable[[], Kind]
    ) -> None:
        num_batches = -(-len(batches) // world_size)
        self._batches = batches[rank::world_size]
        if len(self._batches) < num_batches:
            self._batches.append(filler())
        taken = min(limit, num_batches) if isinstance(limit, int) else int(limit * num_batches)
        if 0 < taken < num_batches:
            spaced = [number * num_batches // taken for number in range(taken)]
            others = [number for number in range(num_batches) if number not in spaced]
            self._batches = [self._batches[number] for number in spaced + others]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Kind]:
        return iter(self._batches)
