"""A signal ends a process wherever its main thread is; each test stops a process that was forked for it."""

import contextlib
import ctypes
import faulthandler
import io
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest

from lit_transformer import fit
from lit_transformer import signals as signals_module
from lit_transformer.cli import sections
from lit_transformer.signals import Interrupted, StopSignals
from tests.helpers.processes import LIMIT_SECONDS, fork, status_of, wait_for_file

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")


def stay_in_a_library() -> None:
    """Wait for a lock that never comes, in C: nothing that Python does with a signal is done."""
    mutex = ctypes.create_string_buffer(256)
    library = ctypes.CDLL(None)
    for _ in range(2):
        library.pthread_mutex_lock(mutex)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a mutex of zeros is Linux'")
@pytest.mark.parametrize("training", [False, True])
def test_a_process_that_is_inside_a_library(training: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before training one signal is enough; in training the second Ctrl-C is."""
    monkeypatch.setattr(signals_module, "PATIENCE_SECONDS", 0.0)

    def run() -> int:
        signals = StopSignals()
        signals.training = training
        with signals.heard(lambda number: (tmp_path / number.name).touch()):
            try:
                (tmp_path / "ready").touch()
                stay_in_a_library()
            except Interrupted:  # the signal came before it was there
                stay_in_a_library()
        return 0

    child = fork(run)
    wait_for_file(tmp_path / "ready")
    if training:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            os.kill(child, number)
            time.sleep(0.1)
        assert os.waitpid(child, os.WNOHANG) == (0, 0), "it saves at the end of the step"
    os.kill(child, signal.SIGINT)
    assert status_of(child) == 128 + signal.SIGINT
    assert (tmp_path / "SIGINT").exists()


def test_before_training_a_signal_ends_what_is_done(tmp_path: Path) -> None:
    """And only the first one: others must not disturb how it ends."""

    def run() -> int:
        signals = StopSignals()
        try:
            with signals.heard(lambda number: None):
                (tmp_path / "ready").touch()
                try:
                    time.sleep(LIMIT_SECONDS)
                finally:
                    os.kill(os.getpid(), signal.SIGTERM)
        except Interrupted as interrupted:
            return int(interrupted.received)
        return 0

    child = fork(run)
    wait_for_file(tmp_path / "ready")
    os.kill(child, signal.SIGUSR1)
    assert status_of(child) == signal.SIGUSR1


def test_a_process_outlives_an_interrupted_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a notebook does. A command that has ended in order is not ended once more."""
    monkeypatch.setattr(signals_module, "PATIENCE_SECONDS", 0.2)

    def run() -> int:
        signals = StopSignals()
        with contextlib.suppress(Interrupted), signals.heard(lambda number: None):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(LIMIT_SECONDS)
        time.sleep(0.6)
        return 0

    assert status_of(fork(run)) == 0


def test_processes_that_it_forks_leave_signals_to_it(tmp_path: Path) -> None:
    """A terminal sends Ctrl-C to all of them. It counts once, and the parent can end the others."""

    def work() -> int:
        (tmp_path / "ready").touch()
        wait_for_file(tmp_path / "end")
        return 0

    def run() -> int:
        signals = StopSignals()
        signals.training = True
        with signals.heard(lambda number: None):
            worker = fork(work)
            wait_for_file(tmp_path / "ready")
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                os.kill(worker, number)
            time.sleep(0.1)
            os.kill(worker, signal.SIGTERM)
            return status_of(worker) + signals.received

    assert status_of(fork(run)) == 256 - signal.SIGTERM


def test_handlers_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "set_blocking")  # Windows has it from Python 3.12 on
    former = [signal.getsignal(number) for number in signals_module.STOP_SIGNALS]
    signals = StopSignals()
    with signals.heard(lambda number: None):
        assert signal.getsignal(signal.SIGHUP) not in (*former, signal.SIG_IGN)
    assert [signal.getsignal(number) for number in signals_module.STOP_SIGNALS] == former
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        with signals.heard(lambda number: None):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_death_without_an_exception_says_where_it_happened(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus error, where a mapped file of the cache was cut off; an abort, where a library got no memory."""

    def run() -> int:
        enabled = []

        def print_help(*_: object) -> bool:
            enabled.append(faulthandler.is_enabled())
            return True

        monkeypatch.setattr(sections, "print_requested_help", print_help)
        faulthandler.disable()
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(fit.__file__, run_name="__main__")
        return int(enabled == [True] and not faulthandler.is_enabled())

    assert status_of(fork(run)) == 1
