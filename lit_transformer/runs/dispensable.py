"""Output that training can do without."""

import threading
from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager
from typing import Self

from lit_transformer.errors import underlying
from lit_transformer.notes import print_note


class Dispensable(ContextDecorator):
    """A context for output that training can do without: an OSError ends nothing, and the first is noted on stderr.

    Args:
        what: Name of the output, for the note.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.noted = False
        """Whether a failure was noted on stderr, which is done once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        # Not Ctrl-C, which can come while an error is handled.
        failure = underlying(error, OSError) if isinstance(error, Exception) else None
        if failure is not None:
            self.lose(failure)
        return failure is not None

    @contextmanager
    def in_threads(self) -> Iterator[None]:
        """Treat errors of background threads in the same way. Python would print a traceback."""
        former = threading.excepthook

        def excepthook(failure: threading.ExceptHookArgs) -> None:
            if isinstance(failure.exc_value, OSError):
                self.lose(failure.exc_value)
            else:
                former(failure)

        threading.excepthook = excepthook
        try:
            yield
        finally:
            threading.excepthook = former

    def lose(self, error: OSError) -> None:
        """Note the error, unless there was one before."""
        if not self.noted:
            self.noted = True
            print_note(f"cannot write {self._what}: {error.strerror or error}. Training goes on.")


CURVES = Dispensable("curves or settings")
"""Encloses whatever writes them into a run's folder."""
