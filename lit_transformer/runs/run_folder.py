"""The folder of a run: where it lies, and the lock that keeps other processes out of it."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path

import lightning as L
from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback

from lit_transformer.checkpoints.names import CHECKPOINTS_FOLDER, all_checkpoints
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.files import expanded
from lit_transformer.runs.parts import callback_of, callbacks_of
from lit_transformer.runs.ranks import on_rank_zero

LOCK = "run.lock"
LOCK_SECONDS = 5.0
"""Time to wait for the lock. A killed process holds it until the system has freed its memory."""
SEARCHED = ("last", "auto")
"""Values of `ckpt_path` that look for a checkpoint and continue in its run's folder."""
STARTS = "starts.jsonl"
"""The record of a run's starts, which every run has."""
WRITTEN_AT_START = ("config.yaml", "hparams.yaml", STARTS, "metrics.csv", "events.out.tfevents.*")
"""Files that every start writes before its first step."""
_FORMER_ROOT = "lightning_logs"
"""Folder of the runs of version 0.1, below `default_root_dir`."""


class RunFolder(Callback):
    """Lightning's `trainer.log_dir` depends on the loggers: this callback holds a folder that does not."""

    def __init__(self) -> None:
        self.path: Path | None = None


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder that a run writes to, the same on every rank. All ranks must call it."""
    for holder in callbacks_of(trainer, RunFolder):
        if holder.path is not None:
            return holder.path
    return expanded(trainer.strategy.broadcast(trainer.log_dir or trainer.default_root_dir))


def check_name(root: Path, settings: Namespace) -> None:
    """Raise UserError if the name of a run leads out of `root`, or to a run that would be overwritten.

    Args:
        root: Its `default_root_dir`.
        settings: With `ckpt_path` `auto` or `last`, the run of that name is continued.
    """
    if settings.name is None:
        return
    name = Path(settings.name)
    if name.is_absolute() or not name.parts or ".." in name.parts:
        raise UserError(f"name is {settings.name!r}: give the name of a folder below default_root_dir")
    try:
        holds_run = any((root / name / part).exists() for part in (CHECKPOINTS_FOLDER, STARTS))
    except (OSError, ValueError) as error:  # a name that no folder can have
        raise UserError(f"name is {settings.name!r:.99}: {innermost_reason(error)}; give another name") from error
    if holds_run and settings.ckpt_path not in SEARCHED:
        raise UserError(
            f"name is {name}, and {root / name} holds a run already: give another name, or ckpt_path auto to resume it"
        )


def former_run(run: Path) -> Path | None:
    """Return the other run in the same folder that has written a checkpoint last, or None if there is none."""
    patterns = (f"*/{CHECKPOINTS_FOLDER}", f"{_FORMER_ROOT}/*/{CHECKPOINTS_FOLDER}")
    others = [place for pattern in patterns for place in run.parent.glob(pattern) if place.parent != run]
    written = [(max(file.stat().st_mtime_ns for file in files), place) for place in others if (files := _files(place))]
    return max(written)[1].parent if written else None


def _files(folder: Path) -> list[Path]:
    try:
        return all_checkpoints(folder)
    except OSError:  # it is no folder, or belongs to somebody else
        return []


@contextmanager
def claimed_folder(trainer: L.Trainer, settings: Namespace, continued: tuple[Path, int] | None) -> Iterator[Path]:
    """Give the run its folder, and lock it, so that no other process writes there.

    Args:
        trainer: Holds the folder in its `RunFolder`.
        settings: `name` is the folder's name below `default_root_dir`. By default, it is `version_N`, with the next
            free number.
        continued: The folder of the run that is continued, and the first step whose curves are drawn anew
            (`continued_run`).

    Raises:
        UserError: Another process trains in the folder, or it cannot be written. All ranks raise it.
    """
    root = expanded(trainer.default_root_dir)

    def find() -> Path:
        if continued:
            return continued[0]
        return _new_folder(root) if settings.name is None else root / settings.name

    folder = on_rank_zero(find, is_rank_zero=trainer.is_global_zero)
    callback_of(trainer, RunFolder).path = folder
    is_new = not any(folder.glob("*"))
    lock = FileLock(folder / LOCK)
    on_rank_zero(lambda: _acquire(lock, folder), is_rank_zero=trainer.is_global_zero)
    try:
        # Another start may have taken the name since the settings were checked.
        on_rank_zero(lambda: check_name(root, settings), is_rank_zero=trainer.is_global_zero)
        with _forgotten_if_refused(trainer, folder) if is_new else nullcontext():
            yield folder
    finally:
        if trainer.is_global_zero:
            _release(lock, folder)


def _new_folder(root: Path) -> Path:
    numbers = [int(path.name.removeprefix("version_")) for path in root.glob("version_*") if _is_numbered(path)]
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Another start may take the number at the same time.
        for number in count(max(numbers, default=-1) + 1):
            with suppress(FileExistsError):
                (root / f"version_{number}").mkdir()
                break
    except OSError as error:
        raise UserError(
            f"cannot make a run's folder in {root}: {error.strerror}; choose another default_root_dir"
        ) from error
    return root / f"version_{number}"


def _is_numbered(path: Path) -> bool:
    return path.name.removeprefix("version_").isdecimal()


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise UserError(
            f"the run {folder} is in progress in another process: wait for its end, or start a run with another name"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot write to the run's folder {folder}: {innermost_reason(error)}; choose another name or "
            "default_root_dir"
        ) from error


def _release(lock: FileLock, folder: Path) -> None:
    # The file is deleted before the lock is released: another process might lock it in between.
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()
    with suppress(OSError):
        folder.rmdir()


@contextmanager
def _forgotten_if_refused(trainer: L.Trainer, folder: Path) -> Iterator[None]:
    """Delete what a start has written that ends before its first step. The folder is deleted if it is empty then."""
    try:
        yield
    except BaseException:
        for file in [file for pattern in WRITTEN_AT_START for file in folder.glob(pattern)]:
            if trainer.is_global_zero and trainer.global_step == 0:
                with suppress(OSError):
                    file.unlink()
        raise
