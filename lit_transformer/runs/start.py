"""How a run starts: its processes, the checkpoint that it resumes from and its folder, the same on every rank.

All of it comes before `trainer.fit`, in which ranks with other settings would wait for each other forever.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning.pytorch.loggers import TensorBoardLogger

from lit_transformer.checkpoints import format as checkpoints
from lit_transformer.errors import UserError
from lit_transformer.runs.provenance import code_version
from lit_transformer.runs.ranks import check_ranks, note, on_all_ranks, on_rank_zero
from lit_transformer.runs.resuming import check_start
from lit_transformer.runs.saving import CURVES, run_folder

SEARCHED = ("last", "auto")
"""Values of --ckpt_path that look for a checkpoint and continue in its run's folder."""
OWN_SETTINGS = ("config", "data.cache_dir", "data.num_workers")
"""Settings in which ranks may differ: nothing that is computed depends on them."""
LOCK = "run.lock"
LOCK_SECONDS = 5.0
"""How long a start waits for the run's lock: a killed process holds it until the system has freed its memory."""


def start_processes(trainer: L.Trainer) -> None:
    """Start the other ranks and join their process group. `trainer.fit` then finds both done."""
    launcher, join = trainer.strategy.launcher, trainer.strategy.setup_environment
    if launcher is None:
        join()
    else:
        launcher.launch(join, trainer=trainer)


def check_settings_of_ranks(trainer: L.Trainer, settings: Namespace) -> None:
    """Raise UserError on all ranks if the code or a setting of one of them differs from rank 0's."""
    mine = {name: value for name, value in flat(settings.as_dict()).items() if name not in OWN_SETTINGS}
    # Each rank chooses the default by what its processor can do.
    mine["trainer.precision"] = trainer.precision
    check_ranks({**mine, "rank": trainer.global_rank, "code": code_version()})


def resume_point(trainer: L.Trainer, ckpt_path: str | None) -> checkpoints.Found | None:
    """The checkpoint that rank 0 finds for `--ckpt_path`, read once on each rank.

    Raises:
        UserError: There is none, it is damaged, or a rank cannot read it. All ranks raise it.
    """
    found: checkpoints.Found | None = None

    def find() -> Path | None:
        nonlocal found
        found = find_start(ckpt_path, Path(trainer.default_root_dir))
        return found.path if found else None

    path = on_rank_zero(find, is_rank_zero=trainer.is_global_zero)
    if path is None:
        return None
    return on_all_ranks(lambda: found or _read_as_rank(path, trainer.global_rank))


def _read_as_rank(path: Path, rank: int) -> checkpoints.Found:
    try:
        return checkpoints.Found(path, checkpoints.read(path))
    except UserError as error:
        raise UserError(
            f"rank {rank} cannot read {path}, which rank 0 resumes from: all nodes must share the folder "
            f"trainer.default_root_dir ({error})"
        ) from error


def find_start(ckpt_path: str | None, root: Path) -> checkpoints.Found | None:
    """The checkpoint that `--ckpt_path` means, if any; damaged ones are named on stderr and passed over."""
    if ckpt_path is None:
        return None
    if ckpt_path not in SEARCHED:
        path = checkpoints.find(ckpt_path)
        found = checkpoints.Found(path, checkpoints.read(path))
    else:
        newest, damaged = checkpoints.newest_readable(root)
        for file in damaged:
            note(f"passed over {file}: it is damaged")
        if newest is None:
            if ckpt_path == "auto":
                return None
            raise UserError(
                f"--ckpt_path last: there is no readable checkpoint below {root} (trainer.default_root_dir): "
                "leave --ckpt_path out or give --ckpt_path auto to start afresh"
            )
        found = newest
    check_start(found.content, found.path)
    return found


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested settings under dotted names, as plain values; what is not set is left out."""
    values: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            values[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return values


@contextmanager
def claimed_folder(trainer: L.Trainer, settings: Namespace, resumed: Path | None) -> Iterator[None]:
    """Give the run its folder and hold it, so that no other process writes there.

    It is the run that has the checkpoint if that was searched for, else a new one, `lightning_logs/version_N`. A logger
    that the settings name chooses its folder itself.

    Raises:
        UserError: Another process trains in the folder, or it cannot be written. All ranks raise it.
    """
    if isinstance(trainer.logger, TensorBoardLogger) and settings.trainer.logger in (None, True):
        if resumed is not None and resumed.parent.name == checkpoints.FOLDER and settings.ckpt_path in SEARCHED:
            run = resumed.parent.parent
            # What the interrupted run drew after the checkpoint is drawn anew.
            purge_step = (checkpoints.step_of(resumed) or 0) + 1
        else:
            run, purge_step = on_rank_zero(lambda: _new_folder(trainer), is_rank_zero=trainer.is_global_zero), None
        trainer.logger = TensorBoardLogger(
            run.parent.parent, name=run.parent.name, version=run.name, purge_step=purge_step
        )
    for chosen in trainer.loggers:
        for method in ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize"):
            setattr(chosen, method, CURVES(getattr(chosen, method)))
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
        # From the number that the logger would take; another start may have been faster.
        for number in count(int(logger.version)):
            with suppress(FileExistsError):
                (root / f"version_{number}").mkdir()
                break
    except OSError as error:
        raise UserError(
            f"cannot make a run's folder in {root}: {error.strerror}; choose another trainer.default_root_dir"
        ) from error
    return root / f"version_{number}"


def _acquire(lock: FileLock, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise UserError(
            f"the run {folder} is in progress, another process trains in it: wait for its end, or start another run "
            "in another trainer.default_root_dir"
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot write to the run's folder {folder}: {error.strerror}; choose another trainer.default_root_dir"
        ) from error


def _release(lock: FileLock, folder: Path) -> None:
    # The file goes while the lock is held, so that no other process holds it. A folder that stayed empty goes, too.
    with suppress(OSError):
        Path(lock.lock_file).unlink()
    lock.release()
    with suppress(OSError):
        folder.rmdir()
