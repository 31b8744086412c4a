"""The lines of stdin as they arrive, from pipes, files and streams in memory."""

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lit_transformer.cli.input_lines import BLOCK_BYTES, arriving_lines, chunk_sizes
from lit_transformer.decoding.settings import BATCH_TOKENS
from lit_transformer.errors import UserError

on_posix = pytest.mark.skipif(os.name != "posix", reason="Windows cannot tell what waits in a pipe")


@pytest.fixture
def pipe() -> Iterator[tuple[io.TextIOWrapper, io.FileIO]]:
    """The reading and the writing end."""
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as reader, os.fdopen(writing, "wb", buffering=0) as writer:
        yield reader, writer


@on_posix
def test_lines_come_as_soon_as_no_more_are_waiting(pipe: tuple[io.TextIOWrapper, io.FileIO]) -> None:
    """If a line were awaited that does not come, the test would not end."""
    reader, writer = pipe
    chunks = arriving_lines(reader, repeat(10))
    writer.write(b"\xef\xbb\xbfa\n")
    assert next(chunks) == ["a"]
    writer.write(b"b\nc\r\n\nd")
    assert next(chunks) == ["b", "c", ""]
    for part in (b"e\nf\n", b"g", b"\nh\n"):
        writer.write(part)
    assert next(chunks) == ["de", "f", "g", "h"], "what has come meanwhile is one chunk"
    writer.write("i\nä".encode()[:-1])
    assert next(chunks) == ["i"]
    writer.write("ä".encode()[-1:] + b" without an end")
    writer.close()
    assert list(chunks) == [["ä without an end"]]


@on_posix
def test_lines_that_keep_coming_are_not_awaited_forever(pipe: tuple[io.TextIOWrapper, io.FileIO]) -> None:
    """Slower than they are read, and faster than the moment that a chunk waits for more."""
    reader, writer = pipe
    ended = threading.Event()

    def write() -> None:
        while not ended.wait(0.002):
            writer.write(b"a\n")

    thread = threading.Thread(target=write)
    thread.start()
    begin = time.monotonic()
    next(arriving_lines(reader, repeat(1_000_000)))
    ended.set()
    thread.join()
    assert time.monotonic() - begin < 10


def in_a_file(data: bytes, folder: Path) -> io.TextIOWrapper:
    (folder / "lines").write_bytes(data)
    return (folder / "lines").open(encoding="utf-8")


def in_bytes(data: bytes, _: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")


def in_text(data: bytes, _: Path) -> io.StringIO:
    return io.StringIO(data.decode("utf-8"))


@pytest.mark.parametrize("stream", [in_a_file, in_bytes, in_text])
def test_chunks_of_what_need_not_be_awaited(stream: Callable[[bytes, Path], io.TextIOWrapper], tmp_path: Path) -> None:
    lines = ["\u2028\x85", "", "ä\rö", "x" * 3_000_000, " ", "e", "f"]
    for end in ("", "\n"):
        data = "\ufeff" + "\r\n".join(lines) + end
        with stream(data.encode(), tmp_path) as opened:
            assert list(arriving_lines(opened, repeat(3))) == [lines[:3], lines[3:6], lines[6:]]
    for data, chunks in (("", []), ("\n", [[""]]), ("\n\n\n", [["", "", ""]])):
        with stream(data.encode(), tmp_path) as opened:
            assert list(arriving_lines(opened, repeat(3))) == chunks


@pytest.mark.parametrize("stream", [in_a_file, in_bytes])
def test_a_line_that_is_not_utf8(stream: Callable[[bytes, Path], io.TextIOWrapper], tmp_path: Path) -> None:
    with stream(b"a\nb\nc\xe4\n", tmp_path) as opened:
        chunks = arriving_lines(opened, repeat(2))
        assert next(chunks) == ["a", "b"]
        with pytest.raises(UserError, match=r"line 3: not UTF-8"):
            next(chunks)


def test_a_stream_that_cannot_be_read() -> None:
    """`translate 0> file` opens stdin for writing."""
    number = os.open(os.devnull, os.O_WRONLY)
    with os.fdopen(number, encoding="utf-8") as stream, pytest.raises(UserError, match=r"stdin: "):
        next(arriving_lines(stream, repeat(2)))


@on_posix
def test_chunks_grow_when_more_is_waiting(tmp_path: Path) -> None:
    """Beyond what is read at a time."""
    num_lines = BLOCK_BYTES
    with in_a_file(b"a\n" * num_lines, tmp_path) as opened:
        assert [len(chunk) for chunk in arriving_lines(opened, repeat(2 * num_lines))] == [num_lines]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("scale", [1, 16])
def test_chunks_are_larger_for_larger_batches_and_more_processes(workers: int, scale: int) -> None:
    """After any number of lines, the same chunks follow."""

    def sizes_of(batch_tokens: int, num_workers: int) -> list[int]:
        translator: Any = SimpleNamespace(batch_tokens=batch_tokens, num_workers=num_workers)
        in_chunks, sizes = chunk_sizes(translator)
        assert in_chunks == 0
        first = list(islice(sizes, 20))
        for number in range(1, 10):
            whole = sum(first[:number])
            for done in (whole, whole + 1):
                in_chunks, sizes = chunk_sizes(translator, done)
                assert (in_chunks, next(sizes)) == (whole, first[number])
        return first

    base, found = sizes_of(BATCH_TOKENS, 1), sizes_of(scale * BATCH_TOKENS, workers)
    assert sizes_of(1, 1) == base
    assert found[0] == scale * base[0]
    assert found[-1] == found[-2] == scale * workers * base[-1]
