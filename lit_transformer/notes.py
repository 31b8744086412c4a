"""Notes to the user on stderr, beside what a command prints."""

import sys

from lit_transformer.errors import printable


def print_note(message: str) -> None:
    """Print one line that begins with `note: `."""
    print(f"note: {printable(message)}", file=sys.stderr, flush=True)
