"""User errors, and how the errors of libraries are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar


class UserError(ValueError):
    """A mistake of the user: the message is one line that names the file, line or argument, and the remedy."""


def printable(message: str) -> str:
    """A message on one line; it may quote a name out of somebody else's file, and terminals obey control characters."""
    return " ".join("".join(character if character.isprintable() else " " for character in message).split())


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether it is torch's complaint that a device, or the system, has no memory left."""
    return "out of memory" in str(error) or "allocate memory" in str(error)


@contextmanager
def enough_memory(remedy: str) -> Iterator[None]:
    """Turn torch's complaint that there is no memory left into a `UserError` with the remedy."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(f"there is not enough memory ({str(error).splitlines()[0]}): {remedy}") from error


Kind = TypeVar("Kind", bound=BaseException)


def underlying(error: BaseException | None, kind: type[Kind]) -> Kind | None:
    """The first exception of a kind along the chain of causes and contexts, or None."""
    while error is not None and not isinstance(error, kind):
        error = error.__cause__ or error.__context__
    return error


def innermost_reason(error: BaseException) -> str:
    """The message of the first cause of a library's exception, on one short line."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
