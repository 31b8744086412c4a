"""The loader of the training stream: worker processes, and a clock that measures how long training waits."""

import time
from collections.abc import Callable, Iterator

from torch.utils.data import DataLoader

from lit_transformer.batch import Batch
from lit_transformer.data.stream import TrainingStream
from lit_transformer.signals import leave_signals_to_training


class TimedLoader:
    """Loads a training stream and measures how long the training loop waits for it.

    Args:
        stream: Makes the batches.
        num_workers: Processes that run the stream. 0 runs it in this process.
        pin_memory: Whether batches are copied to page-locked memory, from which a GPU reads faster.
        check: Called before every batch. It raises an error if the batches must not be trained on.
    """

    def __init__(
        self, stream: TrainingStream, *, num_workers: int, pin_memory: bool, check: Callable[[], None]
    ) -> None:
        self._loader = DataLoader(
            stream,
            batch_size=None,  # the stream's elements are batches
            num_workers=num_workers,
            pin_memory=pin_memory,
            worker_init_fn=leave_signals_to_training,
        )
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
