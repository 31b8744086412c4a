"""Output that training can do without."""

import threading
from collections.abc import Iterator
from contextlib import ContextDecorator, contextmanager
from typing import Self

from lit_transformer.errors import underlying
from lit_transformer.notes import print_note


class Dispensable(ContextDecorator):
    """A context or decorator in which an OSError does not end training. It prints a note about the first one.

    Args:
        what: Name of the output for the note, after "cannot write".
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self.noted = False
        """Whether a failure was noted on stderr, which is done once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        # Ctrl-C is not lost, even if it comes while an OSError is handled.
        failure = underlying(error, OSError) if isinstance(error, Exception) else None
        if failure is not None:
            self.lose(failure)
        return failure is not None

    @contextmanager
    def in_threads(self) -> Iterator[None]:
        """Treat an OSError of a background thread in the same way. Python would print a traceback."""
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
        """Print a note about the first error."""
        if not self.noted:
            self.noted = True
            print_note(f"cannot write {self._what}: {error.strerror or error}. Training goes on.")


CURVES_MAY_FAIL = Dispensable("curves or settings")
"""Encloses everything that writes curves or settings into a run's folder."""
