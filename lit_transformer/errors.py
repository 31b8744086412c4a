"""What a user's mistake is, how a verb reports it, and what else can happen while it prints."""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn


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


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are user errors; options are never guessed from their first letters."""

    def __init__(self, verb: str, description: str | None) -> None:
        super().__init__(prog=f"python -m lit_transformer.{verb}", description=description, allow_abbrev=False)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # Python's parser takes this value away before it looks for one.
        if bare := [arg for arg in (sys.argv[1:] if args is None else args) if re.fullmatch(r"--.*=--", arg)]:
            self.error(f"{bare[0]}: `--` is no value")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (all options: --help)")


def expanded(path: str | Path) -> Path:
    """A path whose `~` is the home that it stands for."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no such home; correct the path") from error


def check_regular(path: Path) -> None:
    """Raises where a path leads to a device or a pipe, whose end nobody knows; nothing there is fine."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path} is a device or a pipe: give a file, or remove it")


@contextmanager
def user_errors_to_exit() -> Iterator[None]:
    """Report a `UserError` as one line on stderr and leave with status 2; everything else is a defect and passes."""
    try:
        yield
    except UserError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
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
