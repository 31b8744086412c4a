"""Compressed files, known by the suffix of their names."""

import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal, cast

import pyarrow as pa

from lit_transformer.errors import UserError
from lit_transformer.files import check_regular


def _open_zstd(path: Path, mode: Literal["rb"]) -> io.BufferedReader:
    return io.BufferedReader(pa.CompressedInputStream(path.open(mode), "zstd"))


COMPRESSIONS: Mapping[str, Callable[[Path, Literal["rb"]], object]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".zst": _open_zstd,
}
"""How to open a compressed file, by the suffix of its name."""


def uncompressed(name: str) -> str:
    """Return a file's name without the suffix of its compression: `train.tsv` for `train.tsv.gz`."""
    return next((name.removesuffix(suffix) for suffix in COMPRESSIONS if name.endswith(suffix)), name)


def plain_or_compressed(path: Path) -> Path | None:
    """Return the path of this name, with the suffix of a compression if need be, or None if there is none."""
    return next((found for end in ("", *COMPRESSIONS) if (found := Path(f"{path}{end}")).exists()), None)


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading, and decompress it if its name has a suffix of `COMPRESSIONS`.

    Raises:
        UserError: The file cannot be read. Errors while it is read become UserErrors, too.
    """
    with readable(path), cast(BinaryIO, COMPRESSIONS.get(path.suffix, Path.open)(path, "rb")) as file:
        yield file


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what can go wrong with a file or folder of the user into a `UserError` that names it."""
    check_regular(path)
    try:
        yield
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"cannot read {path}: {error.strerror or error}") from error
        raise UserError(f"{path} is not a complete {path.suffix} file ({error}): copy or compress it again") from error
