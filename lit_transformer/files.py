"""Files that are written whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EISDIR
from pathlib import Path

from lit_transformer.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a name to write to; it becomes `path` when all went well, else the file is removed.

    A killed run leaves nothing that is taken for the whole, and two runs that write the same file at once do
    not disturb each other.
    """
    unfinished = path.parent / f"{path.name}.{os.getpid()}.tmp"
    # A link of that name, in a folder that somebody else made, would lead the writing elsewhere.
    unfinished.unlink(missing_ok=True)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


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
