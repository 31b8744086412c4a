"""The loader of the training stream: worker processes, and a clock that measures how long training waits."""

import atexit
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from multiprocessing import active_children
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lit_transformer.batch import AnyBatch
from lit_transformer.data.stream import TrainingStream
from lit_transformer.errors import UserError
from lit_transformer.notes import counted, print_note
from lit_transformer.signals import leave_signals_to_parent

POLL_SECONDS = 5.0
"""How often a waiting loader looks for signals. PyTorch looks as often for workers that have died."""
NOTE_SECONDS = 30.0
"""After this time without a batch the loader prints what it waits for, and lets signals end the run."""
LIMIT_SECONDS = 1800.0
"""After this time without a batch the loader gives up, as PyTorch's ranks do that wait for each other."""


class ArrayBatch:
    """A batch whose tensors are NumPy arrays, for its way from a worker process to this one.

    Arrays pass through a pipe. Tensors would pass through /dev/shm, which is small in containers (64 MB in Docker). A
    worker that finds it full sends nothing, and training would wait for it.
    """

    def __init__(self, batch: AnyBatch) -> None:
        self._arrays = _converted(batch, Tensor, Tensor.numpy)

    def batch(self) -> AnyBatch:
        """Return the batch with tensors that share the arrays' memory."""
        return _converted(self._arrays, np.ndarray, torch.from_numpy)

    def pin_memory(self) -> AnyBatch:
        """Copy the batch to page-locked memory. PyTorch's `DataLoader` calls this in a thread of its own."""
        return _converted(self.batch(), Tensor, lambda tensor: tensor.pin_memory())


def _converted(value: Any, kind: type, convert: Callable[[Any], Any]) -> Any:
    """Convert all fields of one type in a named tuple, also in the named tuples that it holds."""
    if isinstance(value, tuple):
        return type(value)(*(_converted(field, kind, convert) for field in value))
    return convert(value) if isinstance(value, kind) else value


class Running:
    """An iterator over a loader, and the worker processes that it has started.

    Args:
        loader: Loads without end.

    Raises:
        UserError: The workers cannot be started.
    """

    def __init__(self, loader: "DataLoader[AnyBatch]") -> None:
        others = set(active_children())
        try:
            self._iterator: Iterator[ArrayBatch | AnyBatch] | None = iter(loader)
        except OSError as error:
            with redirect_stderr(StringIO()):  # PyTorch's half-made iterator prints a traceback when it is deleted
                error.__traceback__ = None
            raise UserError(
                f"num_workers is {loader.num_workers}, but worker processes cannot be started "
                f"({error.strerror or error}): give 0, or enlarge /dev/shm (shm-size in Docker)"
            ) from error
        self._workers = set(active_children()) - others
        # When Python ends, it waits for the workers, which ignore its SIGTERM.
        atexit.register(self.end)

    def __next__(self) -> ArrayBatch | AnyBatch:
        assert self._iterator is not None
        return next(self._iterator)

    def end(self) -> None:
        """End the workers. A second call does nothing."""
        atexit.unregister(self.end)
        self._iterator = None  # a traceback may still hold this object
        while self._workers:
            worker = self._workers.pop()
            worker.kill()  # if it is stuck: PyTorch has waited for its end for some seconds
            worker.join(1.0)


class TimedLoader:
    """Loads the epochs of a training stream and measures how long the training loop waits for it.

    Each iterator ends with an epoch. The next one keeps the same workers, which prepare its first batches.

    Args:
        stream: Makes the batches.
        steps: Returns the optimizer steps that an iterator loads. Called before its first batch.
        num_workers: Processes that run the stream. 0 runs it in this process.
        pin_memory: Whether batches are copied to page-locked memory, from which a GPU reads faster.
        check: Called before every batch. It raises an error if the batches must not be trained on.
    """

    def __init__(
        self,
        stream: TrainingStream,
        *,
        steps: Callable[[], range],
        num_workers: int,
        pin_memory: bool,
        check: Callable[[], None],
    ) -> None:
        self._stream = stream
        self._steps = steps
        self._num_workers = num_workers
        self._pin_memory = pin_memory
        self._check = check
        self._next_epoch: tuple[int, Running] | None = None
        """The first step of the next epoch, and the iterator that continues there."""
        self.wait_seconds = 0.0
        self.while_waiting: list[Callable[[], None]] = []
        """Called from time to time when a wait has become long. They raise an error to end it."""

    def __len__(self) -> int:
        """Return the micro-batches of an epoch."""
        return self._stream.epochs.steps * self._stream.accumulation

    def state_dict(self) -> dict[str, Any]:
        """Return nothing, because the position follows from the optimizer step. Lightning asks resumable loaders."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing."""

    def __iter__(self) -> Iterator[Any]:
        steps = self._steps()
        if not steps:
            return
        running = self._running_from(steps.start)
        try:
            for left in reversed(range(len(steps) * self._stream.accumulation)):
                begin = time.perf_counter()
                loaded = self._next(running)
                batch = loaded.batch() if isinstance(loaded, ArrayBatch) else loaded
                self.wait_seconds += time.perf_counter() - begin
                self._check()
                if not left:
                    self._next_epoch = steps.stop, running
                yield batch
        finally:
            if self._next_epoch is None or self._next_epoch[1] is not running:
                running.end()

    def close(self) -> None:
        """End the workers that wait for the next epoch."""
        if self._next_epoch is not None:
            self._next_epoch[1].end()
            self._next_epoch = None

    def _running_from(self, step: int) -> "Running":
        if self._next_epoch is not None and self._next_epoch[0] == step:
            running, self._next_epoch = self._next_epoch[1], None
            return running
        self.close()
        loader = DataLoader(
            self._stream.from_step(step),
            batch_size=None,  # the stream's elements are batches
            num_workers=self._num_workers,
            collate_fn=ArrayBatch,  # type: ignore[arg-type] # gets one element, because there is no batch size
            pin_memory=self._pin_memory,
            timeout=POLL_SECONDS if self._num_workers else 0.0,
            worker_init_fn=leave_signals_to_parent,
        )
        return Running(loader)

    def _next(self, running: Running) -> ArrayBatch | AnyBatch:
        begin, is_noted = time.monotonic(), False
        while True:
            try:
                return next(running)
            except RuntimeError as error:
                # PyTorch has no exception of its own for it. The loader can be asked again.
                if "timed out" not in str(error):
                    raise
            waited, who = time.monotonic() - begin, counted(self._num_workers, "data worker")
            if waited >= LIMIT_SECONDS:
                raise UserError(
                    f"no batch has come from {who} for {waited:,.0f} seconds: set num_workers to 0, or find out what "
                    "they wait for"
                )
            if waited >= NOTE_SECONDS:
                if not is_noted:
                    print_note(f"training has waited {waited:,.0f} seconds for a batch from {who}. Ctrl-C ends the run")
                is_noted = True
                for end_wait in self.while_waiting:
                    end_wait()
