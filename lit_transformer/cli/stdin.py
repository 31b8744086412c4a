"""The lines of stdin: of a file or pipe, or typed by a person."""

import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from io import TextIOWrapper
from typing import BinaryIO

from lit_transformer.errors import UserError


def decoded_lines(file: BinaryIO) -> Iterator[str]:
    """Yield the lines of a file. Only line feeds end them: Unicode's other line ends are text.

    Raises:
        UserError: If a line is not UTF-8.
    """
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(BOM_UTF8) if number == 1 else line
        try:
            yield text.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise UserError(f"stdin, line {number}: not UTF-8 ({error.reason}): convert the text to UTF-8") from error


def typed_lines() -> Iterator[str]:
    """Ask for sentences on the terminal, and yield each when it is typed."""
    print("Type a sentence and press Enter. Ctrl-D ends.", file=sys.stderr)
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    while True:
        # `input` would write the prompt to stdout, which may be a file.
        print("> ", end="", file=sys.stderr, flush=True)
        try:
            yield input()
        except EOFError:
            print(file=sys.stderr)
            return
