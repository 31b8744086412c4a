"""The signals that ask a run to stop, heard from the start of the command to its end.

Python handles a signal in the main thread, between two of its own instructions. A main thread that is inside a library
(waiting for other ranks, learning a vocabulary) does not get there. So a thread watches for signals as well.
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
"""What the main thread gets to end in order, before the first step."""


class Interrupted(BaseException):
    """The run was stopped by a signal. No `Exception`: code that handles errors must let it pass.

    Args:
        received: The signal.
        step: The last step that was done; None if training had not begun.
        checkpoint: What is saved of it.
    """

    def __init__(self, received: signal.Signals, step: int | None = None, checkpoint: Path | None = None) -> None:
        super().__init__(received.name)
        self.received = received
        self.step = step
        self.checkpoint = checkpoint


class StopSignals:
    """Before training a signal raises `Interrupted` in the main thread; in training it is only remembered.

    A second Ctrl-C ends the process at once, wherever the main thread is.
    """

    def __init__(self) -> None:
        self.received = 0
        """The number of the last signal; 0 if there was none."""
        self.training = False

    @contextmanager
    def heard(self, end: Callable[[signal.Signals], None]) -> Iterator[None]:
        """Hear signals until the block ends. It does nothing in another thread than the main one, where Python cannot.

        Args:
            end: What is left to do before the process is ended at once. The watching thread calls it.
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
                # `nohup` has the run outlive its terminal.
                if not (number.name == "SIGHUP" and signal.getsignal(number) == signal.SIG_IGN):
                    signal.signal(number, self._receive)

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        first = not self.received
        self.received = number
        # A second one must not disturb how the first one ends the run.
        if first and not self.training:
            raise Interrupted(signal.Signals(number))

    def _watch(self, reading: socket.socket, end: Callable[[signal.Signals], None]) -> None:
        """Read the signals' numbers, which Python writes when they arrive, until the other end is closed."""

        def end_at_once(number: signal.Signals) -> None:
            end(number)
            os._exit(128 + number)  # as shells count

        def end_unless_training(number: signal.Signals) -> None:
            # The command may have ended, in a notebook whose process goes on.
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
        """Ignore signals in a forked process. Terminals and clusters signal all; the parent ends its children."""
        if self._owner and self._owner != os.getpid():
            signal.set_wakeup_fd(-1)
            for number in STOP_SIGNALS:
                signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)


def leave_signals_to_training(_worker: int) -> None:
    """Ignore stop signals in a data worker. Terminals and clusters signal all processes, and the last step needs data.

    Args:
        _worker: Number of the worker. PyTorch's `DataLoader` passes it to every such function.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
