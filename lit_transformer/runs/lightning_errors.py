"""Errors of Lightning about settings, in one line."""

import sys
import traceback
from collections.abc import Sequence
from types import FrameType

LIGHTNING = "lightning."
PARTS = tuple(f"lightning.pytorch.{room}." for room in ("callbacks", "loggers", "profilers"))
"""Modules of parts that a user adds by a setting."""
PASSED_OVER = {*sys.stdlib_module_names, "torch", "torchmetrics", "lightning_utilities"}
"""Packages that raise errors about what Lightning has given them."""


def lightning_error(error: Exception, *, in_training: bool) -> str | None:
    """Return what Lightning says about a setting, after the name of its callback, logger or other part.

    Args:
        error: Any exception.
        in_training: Whether a step was taken. Then only an error that Lightning raises on purpose, or an error in one
            of its callbacks, loggers and profilers is about a setting.

    Returns:
        None if the error has another cause: a defect, or code of the user's.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [str(frame.f_globals.get("__name__", "")) for frame in frames]
    responsible = [module for module in modules if module.partition(".")[0] not in PASSED_OVER][-1:]
    raised = modules[-1:] == responsible
    if type(error).__module__.startswith(LIGHTNING):
        return _message(error, frames)
    if not responsible or not responsible[0].startswith(LIGHTNING):
        return None
    # torch raises RuntimeError in a backward pass.
    if isinstance(error, RuntimeError) and not raised:
        return None
    on_purpose = raised and isinstance(error, ValueError | RuntimeError)
    return _message(error, frames) if not in_training or on_purpose or responsible[0].startswith(PARTS) else None


def _message(error: Exception, frames: Sequence[FrameType]) -> str:
    message = f"{error.args[0]} is not set" if isinstance(error, KeyError) and error.args else str(error)
    return f"{_part(frames)}: {message or type(error).__name__}"


def _part(frames: Sequence[FrameType]) -> str:
    """The class of Lightning's innermost part. Its trainer and its private parts stand for all settings."""
    for frame in reversed(frames):
        name = type(frame.f_locals.get("self")).__name__
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(LIGHTNING) and name not in ("NoneType", "Trainer") and not name.startswith("_"):
            return name
    return "the settings cannot be used"
