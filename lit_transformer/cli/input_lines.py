"""The lines that `translate` reads from a file, a pipe or a text stream, as they arrive."""

import os
import select
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from io import BufferedIOBase
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TextIO

from lit_transformer.cli.conversation import typed_lines
from lit_transformer.decoding.settings import BATCH_TOKENS
from lit_transformer.errors import UserError

if TYPE_CHECKING:
    from lit_transformer.decoding.translator import Translator

FIRST_CHUNK = 32
LARGEST_CHUNK = 2048
"""Lines per process that are read at most before they are translated: enough to form batches of similar length.

If batches have more than `BATCH_TOKENS` tokens, as on a GPU, all chunks are as many times as large.
"""
BLOCK_BYTES = 1 << 20
"""Bytes that are read at a time. A pipe gives those that wait in it, which are fewer."""
MOMENT = 0.01
"""Seconds that the first line of a chunk waits for more, so that a program that writes fast gets large chunks."""


def chunk_sizes(translator: "Translator", done: int = 0) -> tuple[int, Iterator[int]]:
    """The numbers of lines of chunks, which grow, so that the first results come soon and long work is fast.

    The same input always has the same chunks, so that a continued translation has the same batches.

    Args:
        translator: Its processes are idle at the end of a chunk, so they share larger chunks.
        done: Lines that are translated.

    Returns:
        The number of lines in whole chunks among `done`, and the sizes of the chunks that follow.
    """
    scale = max(1, translator.batch_tokens // BATCH_TOKENS)
    size, in_chunks, largest = FIRST_CHUNK * scale, 0, LARGEST_CHUNK * scale * translator.num_workers
    while in_chunks + size <= done:
        in_chunks += size
        size = min(2 * size, largest)
    return in_chunks, _sizes(size, largest)


def _sizes(size: int, largest: int) -> Iterator[int]:
    while True:
        yield size
        size = min(2 * size, largest)


@contextmanager
def opened_input(path: Path | None, translator: "Translator") -> Iterator[tuple[Iterator[list[str]], int | None]]:
    """Give the lines of a file or of stdin in chunks, and their number if it is known.

    Args:
        path: The file, or None for stdin.
        translator: As for `chunk_sizes`. Its vocabulary names the words that it does not know if a person types them.
    """
    _, sizes = chunk_sizes(translator)
    if path is not None:
        from lit_transformer.data.compression import open_text

        with open_text(path) as file:
            total, _ = count_and_digest(file)
        with open_text(path) as file:
            yield chunks_of(file_lines(file, str(path)), sizes), total
    elif sys.stdin.isatty():
        yield ([line] for line in typed_lines(translator.vocabularies.source)), None
    else:
        yield arriving_lines(sys.stdin, sizes), num_waiting(sys.stdin.buffer) if hasattr(sys.stdin, "buffer") else None


def chunks_of(lines: Iterable[str], sizes: Iterator[int]) -> Iterator[list[str]]:
    """Cut lines that are all there into chunks."""
    lines = iter(lines)
    return iter(lambda: list(islice(lines, next(sizes))), [])


def file_lines(file: BinaryIO, place: str) -> Iterator[str]:
    """The lines of a file. Only line feeds end lines: Unicode's other line ends are text.

    Args:
        file: The file.
        place: How errors name it.

    Raises:
        UserError: If a line is not UTF-8.
    """
    return (_text(line, number, place) for number, line in enumerate(file, start=1))


def count_and_digest(file: BinaryIO) -> tuple[int, str]:
    """The number of lines from the next one to the end of a file, and a digest of them."""
    digest = blake2b(digest_size=16)
    count, last = 0, b"\n"
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
        count += block.count(b"\n")
        last = block
    return count + (not last.endswith(b"\n")), digest.hexdigest()


def num_waiting(file: BinaryIO) -> int | None:
    """The number of lines of a file on a disk, or None for other files. The next line stays the next."""
    with suppress(OSError):
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            begin = file.tell()
            number, _ = count_and_digest(file)
            file.seek(begin)
            return number
    return None


def arriving_lines(stream: TextIO, sizes: Iterator[int]) -> Iterator[list[str]]:
    """Yield the lines of a stream in chunks: those that have arrived, as soon as no more are waiting.

    Only line feeds end lines: Unicode's other line ends are text. A stream without bytes, such as `io.StringIO`, cannot
    tell what is waiting. Its chunks are as large as possible.

    Args:
        stream: It need not be a file.
        sizes: The most lines of each chunk.

    Raises:
        UserError: If the stream cannot be read, or a line is not UTF-8.
    """
    file = getattr(stream, "buffer", None)
    of_text = iter(lambda: list(islice(stream, next(sizes))), [])
    chunks: Iterator[Sequence[str | bytes]] = of_text if file is None else _chunks(file, sizes)
    first = 1
    try:
        for chunk in chunks:
            yield [_text(line, number, "stdin") for number, line in enumerate(chunk, start=first)]
            first += len(chunk)
    except OSError as error:
        raise UserError(f"cannot read stdin: {error.strerror or error}; give it a file or a pipe") from error


def _chunks(file: BufferedIOBase, sizes: Iterator[int]) -> Iterator[list[bytes]]:
    at_most = next(sizes)
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
            at_most = next(sizes)
        if lines and not _more_waits(file, max(0.0, deadline - time.monotonic())):
            yield lines
            lines = []
            at_most = next(sizes)
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


def _text(line: bytes | str, number: int, place: str) -> str:
    try:
        text = line if isinstance(line, str) else line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{place}, line {number}: not UTF-8 ({error.reason}): convert the text to UTF-8") from error
    # Some editors write a byte order mark.
    text = text.removeprefix("\ufeff") if number == 1 else text
    return text.removesuffix("\n").removesuffix("\r")
