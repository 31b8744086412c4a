"""Files and folders that are written whole or not at all."""

import glob
import os
import re
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
"""Suffix of files and folders that are being written."""
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+", re.IGNORECASE)
"""How an address such as `s3://bucket/folder` begins. A `Path` of it has one slash. A Windows drive has one letter."""


def is_address(path: str | Path) -> bool:
    """Whether this is an address such as `s3://bucket/folder` and not a path."""
    return _ADDRESS.match(str(path)) is not None


def expanded(path: str | Path) -> Path:
    """Return a path with `~` and `~NAME` replaced by home folders. Every path that a user gives is passed through it.

    Raises:
        UserError: There is no such home, or this is an address and no path.
    """
    if found := _ADDRESS.match(str(path)):
        remedy = "copy it to a folder of this machine or mount it, and give that path"
        if found[1].lower() == "file":
            remedy = f"give the path, /{str(path)[found.end() :]}"
        raise UserError(f"{path} is an address, and only paths on this machine are supported: {remedy}")
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: no such home folder; correct the path") from error


def existing_folder(path: str | Path) -> Path:
    """Return the folder itself, or the nearest one above it if it is not made yet."""
    folder = expanded(path).absolute()
    return next(each for each in (folder, *folder.parents) if each.exists())


def check_regular(path: Path) -> None:
    """Raise UserError if a path leads to a device or a pipe, because reading it may never end.

    A missing file passes.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # the caller opens it and reports why it cannot
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError(f"{path} is a device or a pipe: give a file, or remove it")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to. The file becomes `path` if all goes well, else it is removed.

    So a killed process never leaves half a file at `path`, and two processes can write the same file at once. The
    temporary name is random, because containers that share a disk may have the same process ids.
    """
    unfinished = path.parent / f"{path.name}.{token_hex(8)}{UNFINISHED}"
    unfinished.touch(exist_ok=False)
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path, name: str) -> None:
    """Remove unfinished files of killed processes, whose names begin with `name`. No process may be writing one now."""
    for path in folder.glob(f"{glob.escape(name)}*{UNFINISHED}"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextmanager
def output_file(path: Path, *, inputs: Iterable[Path]) -> Iterator[Path]:
    """Give a path to write a command's result to. The file becomes `path` if all goes well, else it is removed.

    Enter it before the work, so that a place that cannot be written is reported early. The folder is made, and an
    earlier file is replaced. If `path` is a link, the link stays and its target is replaced. If it is a device or a
    pipe, the finished file is copied to it.

    Args:
        path: Where the result is to be.
        inputs: What the result is made from (`check_no_input`).

    Raises:
        UserError: `path` cannot be written or is an input.
    """
    with writable(path, inputs=inputs) as real_path:
        if is_device(path):
            with TemporaryDirectory() as folder:
                yield Path(folder) / path.name
                with (Path(folder) / path.name).open("rb") as file, path.open("wb") as device:
                    shutil.copyfileobj(file, device)
            return
        with whole_file(real_path) as unfinished:
            unfinished.touch()
            yield unfinished


def is_device(path: Path) -> bool:
    """Whether a path leads to a device or a pipe."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def writable(path: Path, *, inputs: Iterable[Path]) -> Iterator[Path]:
    """Make the folder of an output, and give the path without links. Errors of the block's files become `UserError`s.

    Raises:
        UserError: `path` cannot be written or is an input.
    """
    try:
        check_no_input(path, inputs)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(EISDIR, "it is a folder")
        is_file = path.exists() and not is_device(path)
        if is_file and not (os.access(path, os.W_OK) and path.stat().st_mode & ANYBODY_WRITES):
            raise PermissionError(EACCES, "it is read-only")
        yield Path(os.path.realpath(path))
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose another file for the output"
        ) from error


def check_no_input(path: Path, inputs: Iterable[Path]) -> None:
    """Raise UserError if `path` is an input of the command that writes it, or the file that its stdout goes to.

    Args:
        path: The output.
        inputs: Files, or folders whose files are meant.
    """
    if not path.is_file():
        return
    for place in inputs:
        for file in place.iterdir() if place.is_dir() else [place]:
            if file.exists() and file.samefile(path):
                raise UserError(f"output {path} is an input of this command ({file}): choose another file")
    for descriptor in (1, 2):
        with suppress(OSError):  # it may be closed
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                raise UserError(f"output {path} is the file that this command prints to: choose another file")


@contextmanager
def new_folder(path: str | Path, *, replaceable: Collection[str] = ()) -> Iterator[Path]:
    """Give a folder to fill. It becomes `path` if all goes well, else it is removed.

    Enter it before the work, so that a place that cannot be written is reported early.

    Args:
        path: The new folder. An empty one may exist.
        replaceable: Names of files that may be in an existing folder and are replaced. Any other file is an error.

    Raises:
        UserError: The folder cannot be written, or holds other files.
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
