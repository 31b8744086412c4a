"""The folder of a run: where it lies, and the lock that keeps other processes out of it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning.pytorch.loggers import TensorBoardLogger

from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.ranks import on_rank_zero

LOCK = "run.lock"
LOCK_SECONDS = 5.0
"""Time to wait for the lock. A killed process holds it until the system has freed its memory."""


def run_folder(trainer: L.Trainer) -> Path:
    """Return the folder that a run writes to, its logger's, the same on every rank. All ranks must call it."""
    folder = trainer.log_dir or trainer.default_root_dir
    return expanded(trainer.strategy.broadcast(folder))


@contextmanager
def claimed_folder(trainer: L.Trainer, settings: Namespace, continued: tuple[Path, int] | None) -> Iterator[None]:
    """Give the run its folder, and lock it, so that no other process writes there.

    Args:
        trainer: Gets a logger that writes to the folder.
        settings: A logger that they name chooses its folder itself.
        continued: The folder of the run that is continued, and the first step whose curves are drawn anew
            (`continued_run`). A new run gets a new folder, `lightning_logs/version_N`.

    Raises:
        UserError: Another process trains in the folder, or it cannot be written. All ranks raise it.
    """
    if isinstance(trainer.logger, TensorBoardLogger) and settings.trainer.logger in (None, True):
        run, purge_step = continued or (
            on_rank_zero(lambda: _new_folder(trainer), is_rank_zero=trainer.is_global_zero),
            None,
        )
        trainer.logger = TensorBoardLogger(
            run.parent.parent, name=run.parent.name, version=run.name, purge_step=purge_step
        )
    for chosen in trainer.loggers:
        for method in ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize"):
            setattr(chosen, method, CURVES_MAY_FAIL(getattr(chosen, method)))
    folder = run_folder(trainer)
    lock = FileLock(folder / LOCK)
    on_rank_zero(lambda: _acquire(lock, folder), is_rank_zero=trainer.is_global_zero)
    try:
        yield
    finally:
        if trainer.is_global_zero:
            _release(lock, folder)


def _new_folder(trainer: L.Trainer) -> Path:
    logger: Any = trainer.logger
    root = Path(logger.root_dir)
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Begin with the logger's choice. Another start may have taken it.
        for number in count(int(logger.version)):
            with suppress(FileExistsError):
                (root / f"version_{number}").mkdir()
                break
    except OSError as error:
        raise UserError(
            f"cannot make a run's folder in {root}: {error.strerror}; choose another default_root_dir"
        ) from error
    return root / f"version_{number}"


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise UserError(
            f"the run {folder} is in progress in another process: wait for its end, or start a run in another "
            "default_root_dir"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write to the run's folder {folder}: {error.strerror}; choose another default_root_dir"
        ) from error


def _release(lock: FileLock, folder: Path) -> None:
    # The file is deleted before the lock is released: another process might lock it in between.
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()
    with suppress(OSError):
        folder.rmdir()
