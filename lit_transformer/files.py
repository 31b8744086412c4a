"""Files that are written whole or not at all."""

import glob
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EISDIR
from pathlib import Path
from secrets import token_hex

from lit_transformer.errors import UserError

UNFINISHED = ".tmp"
"""The end of a name whose file is not whole yet."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; it becomes `path` when all went well, else the file is removed.

    A killed run leaves nothing that is taken for the whole, and two runs that write the same file at once do
    not disturb each other. The name is random: containers that share a disk number their processes alike.
    """
    unfinished = path.parent / f"{path.name}.{token_hex(8)}{UNFINISHED}"
    unfinished.touch(exist_ok=False)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str) -> None:
    """Remove what killed writers have left of files whose names begin with `name`; no writer may be at work."""
    for path in folder.glob(f"{glob.escape(name)}*{UNFINISHED}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """A `whole_file` that a user names with --output, in a folder that is made; an earlier one is replaced.

    Enter it before the work whose result it is to hold, so that a place where nothing can be written is known.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "it is a folder")
        with whole_file(path) as unfinished:
            unfinished.touch()
            yield unfinished
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another file with --output") from error
