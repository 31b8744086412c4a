"""User errors, and the causes of other errors."""

from typing import TypeVar

Kind = TypeVar("Kind", bound=BaseException)


class UserError(ValueError):
    """A mistake of the user. The message is one line that names the file, line or argument, and the remedy."""


def underlying(error: BaseException | None, kind: type[Kind]) -> Kind | None:
    """The first exception of a kind in the chain of causes and contexts, or None."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def innermost_reason(error: BaseException) -> str:
    """The message of the first cause of a library's exception, on one short line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
