"""Places of trained models: from what a user names to a file or a model folder.

A place is a checkpoint, a run folder, a folder above runs, a model folder, or `hf:NAME` on the Hugging Face Hub.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lit_transformer.checkpoints.folder import download_model_folder, is_model_folder, load_model_folder
from lit_transformer.checkpoints.format import OPTIMIZER_ENTRY, load_checkpoint_file, read_checkpoint
from lit_transformer.checkpoints.names import all_checkpoints, best_checkpoints, step_of
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.files import expanded, is_address

HUB_PREFIX = "hf:"


class FoundCheckpoint(NamedTuple):
    """A checkpoint and its content, as `read_checkpoint` returns it."""

    path: Path
    content: dict[str, Any]


def load_checkpoint(place: str | Path) -> TrainedModel:
    """Read a trained model from any place.

    The `path` of a model of the Hub is its name without the owner, so that results beside it are written to the working
    directory and not to the cache.

    Raises:
        UserError: If there is no model or it cannot be read.
    """
    if str(place).startswith(HUB_PREFIX) and not is_address(place):
        name = str(place).removeprefix(HUB_PREFIX)
        return replace(load_model_folder(download_model_folder(name)), path=Path(name.rpartition("/")[2]))
    path = find_checkpoint(place)
    return load_model_folder(path) if is_model_folder(path) else load_checkpoint_file(path)


def find_checkpoint(place: str | Path) -> Path:
    """The file or model folder at a place on this machine.

    A file or a model folder is returned as it is. A run folder stands for its best checkpoint, or for its latest one if
    there is no best. A folder above runs stands for the run that was written to last.

    Raises:
        UserError: If there is none.
    """
    path = _existing(place)
    if not path.is_dir() or is_model_folder(path):
        return path
    folder = newest_checkpoints_folder(path)
    return best_checkpoint(folder) or all_checkpoints(folder)[-1]


def best_checkpoint(folder: Path) -> Path | None:
    """The best checkpoint in a run's folder of checkpoints, if there is one.

    If several of the best are kept, the latest of them has their scores. It has none if it was saved weights-only, and
    then it stands for all of them.

    Raises:
        UserError: If several are kept, and the latest cannot be read.
    """
    kept = best_checkpoints(folder)
    if len(kept) < 2:
        return kept[0] if kept else None
    state = read_checkpoint(kept[-1], mmap=True).get("callbacks", {}).get("best_checkpoint", {})
    name = Path(state.get("best_model_path", "")).name
    return next((path for path in kept if path.name == name), kept[-1])


def newest_checkpoints_folder(root: str | Path) -> Path:
    """The folder with a run's checkpoints, at `root` or below. If there are several, the one that was written to last.

    Raises:
        UserError: If there is none.
    """
    path = _existing(root)
    if not path.is_dir():
        raise UserError(f"{path} is a file: give a run folder or a folder above runs")
    if is_model_folder(path):
        raise UserError(f"{path} is a model folder, which has no checkpoints: give a run folder or a folder above runs")
    if folders := _checkpoint_folders(path):
        return folders[0]
    raise UserError(f"there is no checkpoint in {path} or below it: give a file, a run folder or a folder above runs")


def newest_readable_checkpoint(root: Path) -> tuple[FoundCheckpoint | None, dict[Path, UserError]]:
    """The latest checkpoint below `root` with a training state, and the later ones that were passed over, with reasons.

    Runs are ordered by the time of their last checkpoint. Checkpoints of a run are ordered by step, because copying a
    run changes times.
    """
    unreadable: dict[Path, UserError] = {}
    for folder in _checkpoint_folders(root):
        for file in reversed(all_checkpoints(folder)):
            try:
                content = read_checkpoint(file)
                if OPTIMIZER_ENTRY in content:
                    return FoundCheckpoint(file, content), unreadable
                unreadable[file] = UserError(f"{file} has weights only")
            except UserError as error:
                unreadable[file] = error
    return None, unreadable


def _existing(place: str | Path) -> Path:
    path = expanded(place)
    try:
        path.stat()
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}: give a file, a run folder or a folder above runs") from error
    except (OSError, ValueError) as error:  # a name that no file can have
        raise UserError(
            f"cannot read the checkpoint {place!s:.200}: {innermost_reason(error)}; correct the path"
        ) from error
    return path


def _checkpoint_folders(root: Path) -> list[Path]:
    """The folders with checkpoints at `root` and below, the one written to last first. Links are followed."""
    found: list[Path] = []
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:  # a link that leads back
            subfolders.clear()
        elif any(step_of(Path(name)) is not None for name in [*files, *subfolders]):
            found.append(Path(folder))
        seen.add(place)
    return sorted(found, key=lambda folder: (max(map(_time, all_checkpoints(folder)), default=0), folder), reverse=True)


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # a run in progress has just deleted it
        return 0
