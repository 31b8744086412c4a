"""Files and folders that are written whole or not at all."""

import glob
import os
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from errno import EACCES, EISDIR, ENOTEMPTY
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory

from lit_transformer.errors import UserError

ANYBODY_WRITES = 0o222
"""Write permissions. A file without any is read-only, although the system lets an administrator write to it."""
UNFINISHED = ".tmp"
"""Suffix of files and folders that are not whole yet."""


def expanded(path: str | Path) -> Path:
    """A path whose `~` is the home that it stands for."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no such home; correct the path") from error


def check_regular(path: Path) -> None:
    """Raise UserError if a path leads to a device or a pipe, which may never end. A missing file passes."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # opening it says why
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{path} is a device or a pipe: give a file, or remove it")


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
    """Remove unfinished files whose names begin with `name`, which killed writers left. No writer may be at work."""
    for path in folder.glob(f"{glob.escape(name)}*{UNFINISHED}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def output_file(path: Path, *, inputs: Iterable[Path]) -> Iterator[Path]:
    """A `whole_file` that a user names with --output, in a folder that is made; an earlier one is replaced.

    A link stays, and what it leads to is replaced. To a device or a pipe the whole is copied in the end.
    Enter it before the work whose result it is to hold, so that a place where nothing can be written is known.

    Args:
        path: Where the result is to be.
        inputs: What the result is made from (`check_no_input`).
    """
    try:
        check_no_input(path, inputs)
        if path.exists() and not path.is_file() and not path.is_dir():
            with TemporaryDirectory() as folder:
                yield Path(folder) / path.name
                with (Path(folder) / path.name).open("rb") as file, path.open("wb") as device:
                    shutil.copyfileobj(file, device)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "it is a folder")
        if path.exists() and not (os.access(path, os.W_OK) and path.stat().st_mode & ANYBODY_WRITES):
            raise PermissionError(EACCES, "it is read-only")
        with whole_file(Path(os.path.realpath(path))) as unfinished:
            unfinished.touch()
            yield unfinished
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another file with --output") from error


def check_no_input(path: Path, inputs: Iterable[Path]) -> None:
    """Raise UserError if `path` is an input of the command that is to write it, or the file that stdout goes to.

    Args:
        path: The output.
        inputs: Files, and folders that stand for the files in them.
    """
    if not path.is_file():
        return
    for place in inputs:
        for file in place.iterdir() if place.is_dir() else [place]:
            if file.exists() and file.samefile(path):
                raise UserError(f"--output {path} is an input of this command ({file}): choose another file")
    for descriptor in (1, 2):
        with suppress(OSError):  # it may be closed
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                raise UserError(f"--output {path} is the file that this command prints to: choose another file")


@contextmanager
def new_folder(path: str | Path, *, replaceable: Collection[str] = ()) -> Iterator[Path]:
    """Give a folder to fill. It becomes `path` if all goes well, else it is removed.

    Enter it before the work whose result it will hold, so that a place where nothing can be written is known early.

    Args:
        path: The new folder. An empty one may be there already.
        replaceable: Names of files that may be there, too, and are replaced. Any other file is an error.
    """
    path = Path(os.path.realpath(expanded(path)))
    unfinished = path.parent / f"{path.name}.{token_hex(8)}{UNFINISHED}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        former = list(path.iterdir()) if path.exists() else []
        if not {file.name for file in former} <= set(replaceable):
            raise OSError(ENOTEMPTY, os.strerror(ENOTEMPTY))
        unfinished.mkdir()
        yield unfinished
        for file in former:
            file.unlink()
        if path.exists():
            path.rmdir()
        unfinished.rename(path)
    except OSError as error:
        raise UserError(
            f"cannot write the folder {path}: {error.strerror or error}; remove what is there or choose another place"
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
