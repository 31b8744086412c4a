"""The loader measures how long training waits, and checks before every batch."""

import errno
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

from lit_transformer.batch import EOS_ID, Batch
from lit_transformer.data import loader as loader_module
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.epochs import whole_epochs
from lit_transformer.data.loader import ArrayBatch, TimedLoader
from lit_transformer.data.pairs import PairAssembler
from lit_transformer.data.store import TokenStore
from lit_transformer.data.stream import TrainingStream
from lit_transformer.errors import UserError
from tests.helpers.corpora import write_tokens

PAUSE_SECONDS = 0.05


class SlowStream(TrainingStream):
    """A stream that makes its reader wait for every batch."""

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            time.sleep(PAUSE_SECONDS)
            yield batch


@pytest.fixture
def stream(tmp_path: Path) -> TrainingStream:
    store = TokenStore(write_tokens(tmp_path / "tokens.arrow", [([5, EOS_ID], [7, 11, EOS_ID])] * 13))
    plan = BatchPlan(store.lengths("source"), store.lengths("target"), 6, seed=1)
    assembler, epochs = PairAssembler(store, plan), whole_epochs(plan.num_batches)
    return SlowStream(plan, assembler, epochs=epochs, accumulation=1, rank=0, world_size=1)


def loader_of(stream: TrainingStream, *, num_workers: int = 0, check: Callable[[], None] = lambda: None) -> TimedLoader:
    """Load the first epoch."""
    steps = range(stream.epochs.steps)
    return TimedLoader(stream, steps=lambda: steps, num_workers=num_workers, pin_memory=False, check=check)


def test_only_the_time_before_a_batch_is_measured(stream: TrainingStream) -> None:
    loader = loader_of(stream)
    begin = time.perf_counter()
    for _ in islice(loader, 3):
        time.sleep(PAUSE_SECONDS)
    passed = time.perf_counter() - begin
    assert 3 * PAUSE_SECONDS <= loader.wait_seconds <= passed - 2 * PAUSE_SECONDS


def test_no_batch_is_given_if_the_check_raises(stream: TrainingStream) -> None:
    checks = iter([None, None, KeyError])

    def check() -> None:
        if (error := next(checks)) is not None:
            raise error

    batches = iter(loader_of(stream, check=check))
    assert [int(np.count_nonzero(next(batches).source_BS)) for _ in range(2)] == [4, 4]
    with pytest.raises(KeyError):
        next(batches)


class StuckStream(TrainingStream):
    """A stream whose second batch comes too late."""

    seconds = 2.0

    def __iter__(self) -> Iterator[Batch]:
        yield next(super().__iter__())
        time.sleep(self.seconds)


def test_batches_of_workers_need_no_shared_memory(stream: TrainingStream) -> None:
    """Containers have little of it, and a worker that finds it full sends nothing."""
    direct = loader_of(stream)
    loader = loader_of(stream, num_workers=2)
    for batch, expected in islice(zip(loader, direct, strict=True), 5):
        for field, value in zip(batch, expected, strict=True):
            if isinstance(field, torch.Tensor):
                assert torch.equal(field, torch.as_tensor(value))
                assert not field.is_shared()
            else:
                assert field == value
    assert not multiprocessing.active_children()


def test_workers_that_cannot_be_started(
    stream: TrainingStream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The mistake is one line. PyTorch's loader, which is half made, adds nothing when Python deletes it."""

    def queue() -> NoReturn:
        raise OSError(errno.ENOSPC, "it is full")

    monkeypatch.setattr(torch.multiprocessing, "Queue", queue)
    monkeypatch.setattr(sys, "unraisablehook", sys.__unraisablehook__)  # pytest has one of its own
    with pytest.raises(UserError, match=r"num_workers is 2.*it is full"):
        next(iter(loader_of(stream, num_workers=2)))
    assert capsys.readouterr().err == ""


def test_a_long_wait_is_noted_and_can_be_ended(
    stream: TrainingStream, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loader_module, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(loader_module, "NOTE_SECONDS", 0.0)
    stream.__class__ = StuckStream
    asked = 0

    def end_wait() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise KeyError

    loader = loader_of(stream, num_workers=1)
    loader.while_waiting.append(end_wait)
    batches = iter(loader)
    next(batches)
    capsys.readouterr()
    with pytest.raises(KeyError):
        next(batches)
    [note] = capsys.readouterr().err.splitlines()
    assert note.startswith("note: ")
    assert re.search(r"\b1 data worker\b", note)


def test_a_wait_has_a_limit(stream: TrainingStream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader_module, "POLL_SECONDS", 0.2)
    monkeypatch.setattr(loader_module, "LIMIT_SECONDS", 0.5)
    monkeypatch.setattr(StuckStream, "seconds", 3600.0)  # the worker must not be waited for
    stream.__class__ = StuckStream
    batches = iter(loader_of(stream, num_workers=1))
    next(batches)
    with pytest.raises(UserError, match="num_workers"):
        next(batches)
    assert not multiprocessing.active_children()


def test_a_gpu_s_batch_is_copied_to_page_locked_memory(stream: TrainingStream, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's loader asks the batch itself to do it. Here, memory that is marked stands for it."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 100)
    [batch] = islice(stream, 1)
    pinned = ArrayBatch(batch).pin_memory()
    assert isinstance(pinned, Batch)
    assert torch.equal(pinned.source_BS, batch.source_BS + 100)
    assert pinned[3:] == batch[3:]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_iterator_ends_with_its_epoch_and_the_next_one_keeps_the_workers(
    stream: TrainingStream, num_workers: int
) -> None:
    """A new process per epoch would take longer than the steps of a small one."""
    stream.__class__ = TrainingStream
    length, epoch = stream.epochs.steps, 0
    loader = TimedLoader(
        stream,
        steps=lambda: range(epoch * length, (epoch + 1) * length),
        num_workers=num_workers,
        pin_memory=False,
        check=lambda: None,
    )
    assert len(loader) == length
    workers = []
    for epoch in range(3):
        batches = iter(loader)
        assert [next(batches).step for _ in range(length)] == [*range(epoch * length, (epoch + 1) * length)]
        workers.append(multiprocessing.active_children())
        if epoch == 1:  # Lightning does not ask for the end
            assert next(batches, None) is None
        del batches
    assert workers[0] == workers[1] == workers[2]
    assert len(workers[0]) == num_workers
    loader.close()
    assert not multiprocessing.active_children()


def test_an_epoch_that_is_left_early_ends_its_workers(stream: TrainingStream) -> None:
    stream.__class__ = TrainingStream
    batches = iter(loader_of(stream, num_workers=1))
    next(batches)
    assert multiprocessing.active_children()
    del batches
    assert not multiprocessing.active_children()
