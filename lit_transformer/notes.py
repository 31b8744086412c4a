"""Notes to the user on stderr, beside what a command prints."""

import sys


def print_note(message: str) -> None:
    """Print one line that begins with `note: `."""
    print(f"note: {printable(message)}", file=sys.stderr, flush=True)


def printable(message: str) -> str:
    """A message on one line, without the control characters that a quoted file name may hold and terminals obey."""
    return " ".join("".join(character if character.isprintable() else " " for character in message).split())
