"""The training stream: the micro-batches of one rank, epoch after epoch without end.

Legend: B batch, S source length, T target length.
"""

from collections.abc import Iterator
from copy import copy
from itertools import count
from typing import Self

from torch.utils.data import IterableDataset, get_worker_info

from lit_transformer.batch import Batch, filler_row, make_batch
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.epochs import Epochs
from lit_transformer.data.store import TokenStore


class TrainingStream(IterableDataset[Batch]):
    """Micro-batches of one rank: a pure function of the plan, the first step, the rank and the world size."""

    def __init__(
        self, plan: BatchPlan, store: TokenStore, *, epochs: Epochs, accumulation: int, rank: int, world_size: int
    ) -> None:
        self.epochs = epochs
        self.accumulation = accumulation
        self._plan = plan
        self._store = store
        self._first_step = 0
        self._rank = rank
        self._world_size = world_size

    def from_step(self, step: int) -> Self:
        """Return the stream from this optimizer step on."""
        stream = copy(self)
        stream._first_step = step
        return stream

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        # The loader takes micro-batches from its workers in turn, so the workers make them in turn.
        for number in count(first, every):
            offset, micro_batch = divmod(number, self.accumulation)
            yield self.batch(self._first_step + offset, micro_batch)

    def batch(self, step: int, micro_batch: int) -> Batch:
        """Return the given micro-batch of an optimizer step, both counted from 0."""
        step_rows = self._plan.step_rows(self.epochs.plan_step(step))
        step_target_tokens = int(self._plan.target_lengths[step_rows].sum())
        longer = self._plan.longer_sides(step_rows)
        rows = self._plan.micro_batch_rows(
            step_rows, longer, micro_batch, self.accumulation, self._rank, self._world_size
        )
        if len(rows):
            source_BS, target_BT = self._store.gather(rows, "source"), self._store.gather(rows, "target")
        else:
            source_BS, target_BT = filler_row()
        batch = make_batch(
            source_BS, target_BT, step_target_tokens=step_target_tokens, step=step, micro_batch=micro_batch
        )
        return self._plan.lay_out(batch, self.accumulation * self._world_size)
