"""What a user's mistake is, and how a verb reports it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """A mistake of the user: the message is one line that names the file, line or argument, and the remedy."""


@contextmanager
def user_errors_to_exit() -> Iterator[None]:
    """Report a `UserError` as one line on stderr and leave with status 2; everything else is a defect and passes."""
    try:
        yield
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
