"""From rows to batches: the endless stream of one rank, the validation set, and the clock on both."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, Batch, TextBatch
from lit_transformer.data.batching import BatchPlan, Integers, batches_by_length, share
from lit_transformer.data.store import TokenStore
from lit_transformer.data.tokenizer import Tokenizer


class TrainingStream(IterableDataset[Batch]):
    """Micro-batches of one rank: a pure function of the plan, the first step, the rank and the world size."""

    def __init__(
        self, plan: BatchPlan, store: TokenStore, *, first_step: int, accumulation: int, rank: int, world_size: int
    ) -> None:
        self._plan = plan
        self._store = store
        self._first_step = first_step
        self._accumulation = accumulation
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        # Several workers make the micro-batches by turns, and by turns the loader takes theirs.
        for number in count(first, every):
            offset, micro_batch = divmod(number, self._accumulation)
            yield self._batch(self._first_step + offset, micro_batch)

    def _batch(self, step: int, micro_batch: int) -> Batch:
        step_rows = self._plan.step_rows(step)
        step_target_tokens = int(self._plan.target_lengths[step_rows].sum())
        index = micro_batch * self._world_size + self._rank
        rows = share(step_rows, index, self._accumulation * self._world_size)
        pair = (self._store.gather(rows, "source"), self._store.gather(rows, "target")) if len(rows) else _filler()
        return make_batch(*pair, step_target_tokens=step_target_tokens, step=step, micro_batch=micro_batch)


def make_batch(
    source: Integers, target: Integers, *, step_target_tokens: int = 0, step: int = 0, micro_batch: int = 0
) -> Batch:
    """Padded pieces with EOS, pairs x positions, to what encoder and decoder read and the decoder must say."""
    begin = np.full((len(target), 1), BOS_ID, dtype=target.dtype)
    # Shifted by one: a shorter row's EOS falls on what is padding in the output, where nothing is asked.
    target_input = np.concatenate([begin, target[:, :-1]], axis=1)
    return Batch(
        torch.from_numpy(source),
        torch.from_numpy(target_input),
        torch.from_numpy(target),
        int(np.count_nonzero(source != PAD_ID)),
        int(np.count_nonzero(target != PAD_ID)),
        step_target_tokens,
        step,
        micro_batch,
    )


def _filler() -> tuple[Integers, Integers]:
    """A row that asks for nothing, for a rank that a small global batch leaves without sentences."""
    return np.full((1, 1), EOS_ID), np.full((1, 1), PAD_ID)


def _padded(sequences: list[list[int]]) -> Integers:
    longest = max(map(len, sequences))
    return np.array([ids + [PAD_ID] * (longest - len(ids)) for ids in sequences])


class TimedLoader:
    """A loader that knows how long it has kept the training loop waiting.

    Args:
        loader: Gives the batches.
        check: Raises where they should not be trained on.
    """

    def __init__(self, loader: DataLoader[Batch], check: Callable[[], None]) -> None:
        self._loader = loader
        self._check = check
        self.wait_seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        batches = iter(self._loader)
        while True:
            begin = time.perf_counter()
            batch = next(batches)
            self.wait_seconds += time.perf_counter() - begin
            self._check()
            yield batch


def validation_batches(
    sources: Sequence[str],
    references: Sequence[str],
    tokenizer: Tokenizer,
    batch_tokens: int,
    *,
    longest: int | None = None,
) -> tuple[list[TextBatch], int]:
    """All sentences, the longest first, in batches of at most `batch_tokens` padded tokens on either side.

    Sentences of more than `longest` tokens are cut. A cut source keeps its EOS. A cut target has none, because the text
    does not end there. The references of BLEU stay whole.

    Returns:
        The batches, and the number of sentence pairs that were cut.
    """
    most = sys.maxsize if longest is None else longest
    source_ids, target_ids = tokenizer.encode(list(sources)), tokenizer.encode(list(references))
    lengths = [1 + max(map(len, pair)) for pair in zip(source_ids, target_ids, strict=True)]
    batches = []
    for picked in batches_by_length([min(length, most) for length in lengths], batch_tokens):
        batch = make_batch(
            _padded([[*source_ids[index][: most - 1], EOS_ID] for index in picked]),
            _padded([[*target_ids[index], EOS_ID][:most] for index in picked]),
        )
        texts = (tuple(texts[index] for index in picked) for texts in (sources, references))
        batches.append(TextBatch(batch, tuple(picked), *texts))
    return batches, sum(length > most for length in lengths)


class ValidationBatches:
    """Every world_size-th validation batch; all ranks get the same number, the last ones filler if need be."""

    def __init__(self, batches: list[TextBatch], rank: int, world_size: int) -> None:
        self._batches = batches[rank::world_size]
        if len(self._batches) < -(-len(batches) // world_size):
            self._batches.append(TextBatch(make_batch(*_filler()), (), (), ()))

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[TextBatch]:
        return iter(self._batches)
