"""Notes to the user on stderr, beside what a command prints."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def print_note(message: str) -> None:
    """Print one line that begins with `note: `."""
    with bars_hidden():
        print(f"note: {printable(message)}", file=sys.stderr, flush=True)


def first_few(name: str, numbers: Sequence[int], most: int = 5) -> str:
    """Numbers as text, such as `lines 3, 5 and 1,204 more`."""
    shown = ", ".join(map(str, numbers[:most]))
    more = f" and {len(numbers) - most:,} more" if len(numbers) > most else ""
    return f"{name}{'s' if len(numbers) > 1 else ''} {shown}{more}"


def print_warning(message: str) -> None:
    """Print one line that begins with `warning: `."""
    with bars_hidden():
        print(f"warning: {printable(message)}", file=sys.stderr, flush=True)


@contextmanager
def bars_hidden() -> Iterator[None]:
    """Hide the live bars of this process, also those of Lightning and datasets, while a line is printed."""
    if "tqdm" not in sys.modules:
        yield
        return
    with sys.modules["tqdm"].tqdm.external_write_mode(file=sys.stderr):
        yield


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, in the plural unless the number is 1."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def printable(message: str) -> str:
    """A message on one line, without the control characters that a quoted file name may hold and terminals obey."""
    return " ".join("".join(character if character.isprintable() else " " for character in message).split())


def format_duration(seconds: float) -> str:
    """A duration in two digits or three, such as `45 s`, `12 min` or `3 h 20 min`."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
