"""Processes that are forked from the test's process, so that they need not import anything."""

import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

LIMIT_SECONDS = 60


def fork(function: Callable[[], int]) -> int:
    """Run a function in a forked process. What it returns is the exit status. Returns the process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which this process does not need
        child = os.fork()
    if child == 0:
        status = 99
        try:
            status = function()
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            os._exit(status)
    return child


def status_of(child: int) -> int:
    """Wait for a process and return its exit status. A process that does not end is killed."""
    for _ in range(100 * LIMIT_SECONDS):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError("the process goes on")


def wait_for_file(path: Path, text: str = "") -> None:
    """Wait until there is a file that contains this text."""
    for _ in range(100 * LIMIT_SECONDS):
        if path.exists() and text in path.read_text():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} does not come")
