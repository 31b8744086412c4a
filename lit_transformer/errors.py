"""What a user's mistake is, how a verb reports it, and what else can happen while it prints."""

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import NoReturn


class UserError(ValueError):
    """A mistake of the user: the message is one line that names the file, line or argument, and the remedy."""


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


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are user errors; options are never guessed from their first letters."""

    def __init__(self, verb: str, description: str | None) -> None:
        super().__init__(prog=f"python -m lit_transformer.{verb}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (all options: --help)")


@contextmanager
def user_errors_to_exit() -> Iterator[None]:
    """Report a `UserError` as one line on stderr and leave with status 2; everything else is a defect and passes."""
    try:
        yield
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def utf8_output() -> Iterator[None]:
    """Write UTF-8 whatever the locale, and end quietly when nobody reads any more."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    try:
        yield
    except OSError as error:
        # What Python still holds back goes nowhere, or it would complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise UserError(f"cannot write to stdout: {error.strerror}; make room there") from error
