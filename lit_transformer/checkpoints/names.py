"""How a run names its checkpoints.

A run keeps its checkpoints in the folder `checkpoints/`:

| name | written |
|---|---|
| `step-STEP.ckpt` | at regular intervals and at the end |
| `best-step-STEP.ckpt` | at the best `val/selection` |
| `interrupted-step-STEP.ckpt` | if a signal stopped the run |

Training can be resumed from each of them. Only regular checkpoints are averaged.
"""

import re
from pathlib import Path

CHECKPOINTS_FOLDER = "checkpoints"
_NAME = re.compile(r"(best-|interrupted-)?step-(\d+)\.ckpt")


def step_path(folder: Path, step: int) -> Path:
    """The regular checkpoint of an optimizer step."""
    return folder / f"step-{step:08d}.ckpt"


def best_path(folder: Path, step: int) -> Path:
    """The checkpoint with the best `val/selection`, which was reached at `step`."""
    return folder / f"best-step-{step:08d}.ckpt"


def interrupted_path(folder: Path, step: int) -> Path:
    """The checkpoint that was written after `step` because a signal stopped the run."""
    return folder / f"interrupted-step-{step:08d}.ckpt"


def step_of(path: Path) -> int | None:
    """The step in a checkpoint's name, or None if the file is not named as above."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(2)) if match else None


def all_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest step first. The regular checkpoint of a step comes last."""
    return sorted((file for file in folder.iterdir() if step_of(file) is not None), key=_by_step)


def regular_checkpoints(folder: Path) -> list[Path]:
    """The regular checkpoints in a folder, oldest step first."""
    return [file for file in all_checkpoints(folder) if file.name.startswith("step-")]


def best_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder that were the best when they were written, oldest step first."""
    return [file for file in all_checkpoints(folder) if file.name.startswith("best-")]


def interrupted_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of interruptions in a folder, oldest step first."""
    return [file for file in all_checkpoints(folder) if file.name.startswith("interrupted-")]


def _by_step(path: Path) -> tuple[int, str]:
    return step_of(path) or 0, path.name
