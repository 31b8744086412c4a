"""How a run names its checkpoints.

A run keeps its checkpoints in the folder `checkpoints/`:

| name | written |
|---|---|
| `step-STEP.ckpt` | at regular intervals and at the end |
| `best-step-STEP.ckpt` | at the best `val/selection` |
| `interrupted-step-STEP.ckpt` | if a signal stopped the run |

Only regular checkpoints are averaged. Other names show the step as Lightning's own do: `epoch=0-step=111.ckpt`.
"""

import re
from pathlib import Path

CHECKPOINTS_FOLDER = "checkpoints"
STEP_NAME = "step-{step:08d}"
"""Name of a regular checkpoint, as a template of Lightning."""
BEST_NAME = "best-step-{step:08d}"
INTERRUPTED = "interrupted-"
_NAME = re.compile(r"(?:.*[-_])?step[-=](\d+)(?:\D.*)?\.ckpt")


def step_path(folder: Path, step: int) -> Path:
    """The regular checkpoint of an optimizer step."""
    return folder / f"{STEP_NAME.format(step=step)}.ckpt"


def best_path(folder: Path, step: int) -> Path:
    """The checkpoint with the best `val/selection`, which was reached at `step`."""
    return folder / f"{BEST_NAME.format(step=step)}.ckpt"


def interrupted_path(folder: Path, step: int) -> Path:
    """The checkpoint that was written after `step` because a signal stopped the run."""
    return folder / f"{INTERRUPTED}{STEP_NAME.format(step=step)}.ckpt"


def step_of(path: Path) -> int | None:
    """The step in a checkpoint's name, or None if the file is not named as above."""
    match = _NAME.fullmatch(path.name)
    return int(match.group(1)) if match else None


def all_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest step first. The regular checkpoint of a step comes last."""
    return sorted((file for file in folder.iterdir() if step_of(file) is not None), key=_by_step)


def regular_checkpoints(folder: Path) -> list[Path]:
    """The regular checkpoints in a folder, oldest step first.

    If none has the name of one, they are all that are neither the best nor those of interruptions.
    """
    files = [file for file in all_checkpoints(folder) if not file.name.startswith(("best", INTERRUPTED))]
    return [file for file in files if file.name.startswith("step-")] or files


def best_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder that were the best when they were written, oldest step first."""
    return [file for file in all_checkpoints(folder) if file.name.startswith("best")]


def _by_step(path: Path) -> tuple[int, str]:
    return step_of(path) or 0, path.name
