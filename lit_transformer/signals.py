"""The signals that ask a run to stop, and how its processes receive them.

Python handles a signal in the main thread, between two of its own instructions. A main thread inside a library does not
handle it, for example while it waits for other ranks. So a second thread watches for signals as well.
"""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# By name: Windows has neither SIGUSR1 nor SIGHUP.
STOP_SIGNALS = tuple(number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"))
"""The signals that ask a run to save and stop."""
PATIENCE_SECONDS = 10.0
"""Before the first step: the time in which the main thread can end by itself."""


class Interrupted(BaseException):
    """The run was stopped by a signal. It is not an `Exception`, so that code that handles errors lets it pass.

    Args:
        received: The signal.
        step: The last optimizer step; None if training had not begun.
        checkpoint: The checkpoint of that step; None if the run could not wait for the end of a step.
    """

    def __init__(self, received: signal.Signals, step: int | None = None, checkpoint: Path | None = None) -> None:
        super().__init__(received.name)
        self.received = received
        self.step = step
        self.checkpoint = checkpoint


class StopSignals:
    """Receives stop signals. Before training a signal raises `Interrupted`, and in training it is only recorded.

    A second Ctrl-C ends the process at once, whatever the main thread does.
    """

    def __init__(self) -> None:
        self.received = 0
        """Number of the last signal; 0 if there was none."""
        self.training = False

    @contextmanager
    def heard(self, end: Callable[[signal.Signals], None]) -> Iterator[None]:
        """Receive signals until the block ends. Outside the main thread Python cannot, and this does nothing.

        Args:
            end: Called by the watching thread before it ends the process at once.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        former = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOP_SIGNALS}
        # Sockets: Windows before Python 3.12 has no pipes that do not block.
        reading, writing = socket.socketpair()
        writing.setblocking(False)
        former_writing = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        self._owner = os.getpid()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._leave_to_parent)
        threading.Thread(target=self._watch, args=(reading, end), daemon=True).start()
        self.install()
        try:
            yield
        finally:
            signal.set_wakeup_fd(former_writing)
            for number, handler in former.items():
                signal.signal(number, handler)
            writing.close()
            self._owner = 0

    def install(self) -> None:
        """Set the handlers. Call it again when another library has set its own."""
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                # Under `nohup` the run must survive the end of its terminal.
                if not (number.name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                    signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        first = not self.received
        self.received = number
        # A second signal must not interrupt the end that the first one began.
        if first and not self.training:
            raise Interrupted(signal.Signals(number))

    def _watch(self, reading: socket.socket, end: Callable[[signal.Signals], None]) -> None:
        """Read the numbers of signals, which Python writes to the socket, until the other end is closed."""

        def end_at_once(number: signal.Signals) -> None:
            end(number)
            os._exit(128 + number)  # as shells count

        def end_unless_training(number: signal.Signals) -> None:
            # In a notebook the process goes on after the command has ended.
            if self._owner and not self.training:
                end_at_once(number)

        seen: list[int] = []
        with reading:
            while received := reading.recv(1):
                if received[0] not in STOP_SIGNALS:
                    continue
                seen.append(received[0])
                if seen.count(signal.SIGINT) > 1:
                    end_at_once(signal.SIGINT)
                if not self.training and len(seen) == 1:
                    timer = threading.Timer(PATIENCE_SECONDS, end_unless_training, [signal.Signals(received[0])])
                    timer.daemon = True
                    timer.start()

    def _leave_to_parent(self) -> None:
        """Ignore signals in a forked process. Terminals signal all processes, and the parent ends this one."""
        if self._owner and self._owner != os.getpid():
            signal.set_wakeup_fd(-1)
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


def leave_signals_to_parent(_worker: int = 0) -> None:
    """Ignore stop signals in a worker process. Terminals and clusters signal all processes, and the parent decides.

    Args:
        _worker: Number of the worker. PyTorch's `DataLoader` passes it to every such function.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
