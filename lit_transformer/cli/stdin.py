"""The lines of stdin: of a file, pipe or text stream as they arrive, or typed by a person."""

import select
import sys
import time
from collections.abc import Iterator, Sequence
from io import BufferedIOBase, TextIOWrapper
from itertools import islice
from typing import TextIO

from lit_transformer.errors import UserError

BLOCK_BYTES = 1 << 20
"""Bytes that are read at a time. A pipe gives those that wait in it, which are fewer."""
MOMENT = 0.01
"""Seconds that the first line of a chunk waits for more, so that a program that writes fast gets large chunks."""


def arriving_lines(stream: TextIO, at_most: int) -> Iterator[list[str]]:
    """Yield the lines of a stream in chunks: those that have arrived, as soon as no more are waiting.

    Only line feeds end lines: Unicode's other line ends are text. A stream without bytes, such as `io.StringIO`, cannot
    tell what is waiting. Its chunks are as large as possible.

    Args:
        stream: It need not be a file.
        at_most: Lines of the largest chunk.

    Raises:
        UserError: If the stream cannot be read, or a line is not UTF-8.
    """
    file = getattr(stream, "buffer", None)
    of_text = iter(lambda: list(islice(stream, at_most)), [])
    chunks: Iterator[Sequence[str | bytes]] = of_text if file is None else _chunks(file, at_most)
    first = 1
    try:
        for chunk in chunks:
            yield [_text(line, number) for number, line in enumerate(chunk, start=first)]
            first += len(chunk)
    except OSError as error:
        raise UserError(f"cannot read stdin: {error.strerror or error}; give it a file or a pipe") from error


def _chunks(file: BufferedIOBase, at_most: int) -> Iterator[list[bytes]]:
    lines: list[bytes] = []
    unended: list[bytes] = []
    """Blocks of a line whose end has not arrived."""
    deadline = 0.0
    while block := file.read1(BLOCK_BYTES):
        if not lines:
            deadline = time.monotonic() + MOMENT
        first, *others = block.split(b"\n")
        unended.append(first)
        if others:
            lines += [b"".join(unended), *others[:-1]]
            unended = [others[-1]]
        while len(lines) >= at_most:
            yield lines[:at_most]
            del lines[:at_most]
        if lines and not _more_waits(file, max(0.0, deadline - time.monotonic())):
            yield lines
            lines = []
    if last := b"".join(unended):
        lines.append(last)
    if lines:
        yield lines


def _more_waits(file: BufferedIOBase, seconds: float) -> bool:
    """Whether there is more to read within this time. Windows cannot tell, and neither can a file in memory."""
    try:
        return bool(select.select([file], [], [], seconds)[0])
    except (OSError, ValueError):
        return False


def _text(line: bytes | str, number: int) -> str:
    try:
        text = line if isinstance(line, str) else line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"stdin, line {number}: not UTF-8 ({error.reason}): convert the text to UTF-8") from error
    # Some editors write a byte order mark.
    text = text.removeprefix("\ufeff") if number == 1 else text
    return text.removesuffix("\n").removesuffix("\r")


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
