"""The training stream: the micro-batches of one rank, epoch after epoch without end."""

from collections.abc import Iterator
from copy import copy
from itertools import count
from typing import Any, Protocol, Self

from torch.utils.data import IterableDataset, get_worker_info

from lit_transformer.batch import AnyBatch, IntArray
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.epochs import Epochs


class Assembler(Protocol):
    """Makes micro-batches from rows of the training data. It is pickled for worker processes."""

    def num_target_tokens(self, rows: IntArray) -> int:
        """Return the tokens that are predicted in these rows, which are those of a whole optimizer step."""

    def batch(self, rows: IntArray, *, step_target_tokens: int = 0, step: int = 0, micro_batch: int = 0) -> AnyBatch:
        """Return rows as a micro-batch. Without rows, it is a batch without a token to predict."""


class TrainingStream(IterableDataset[Any]):
    """Micro-batches of one rank: a pure function of the plan, the first step, the rank and the world size."""

    def __init__(
        self, plan: BatchPlan, assembler: Assembler, *, epochs: Epochs, accumulation: int, rank: int, world_size: int
    ) -> None:
        self.epochs = epochs
        self.accumulation = accumulation
        self._plan = plan
        self._assembler = assembler
        self._first_step = 0
        self._rank = rank
        self._world_size = world_size

    def from_step(self, step: int) -> Self:
        """Return the stream from this optimizer step on."""
        stream = copy(self)
        stream._first_step = step
        return stream

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        # The loader takes micro-batches from its workers in turn, so the workers make them in turn.
        for number in count(first, every):
            offset, micro_batch = divmod(number, self.accumulation)
            yield self.batch(self._first_step + offset, micro_batch)

    def batch(self, step: int, micro_batch: int) -> Any:
        """Return the given micro-batch of an optimizer step, both counted from 0."""
        step_rows = self._plan.step_rows(self.epochs.plan_step(step))
        longer = self._plan.longer_sides(step_rows)
        rows = self._plan.micro_batch_rows(
            step_rows, longer, micro_batch, self.accumulation, self._rank, self._world_size
        )
        step_target_tokens = self._assembler.num_target_tokens(step_rows)
        return self._assembler.batch(rows, step_target_tokens=step_target_tokens, step=step, micro_batch=micro_batch)
