"""A checkpoint: a complete translator and its training state in one file, for the run that wrote it.

What is handed on to others is a model folder (`model_folder`).

It is Lightning's checkpoint (weights under `state_dict`, the training state beside them) with one more entry,
`lit_transformer`: the architecture, the SentencePiece model's bytes, the languages and the step. A run keeps its
checkpoints in `checkpoints/`: `step-STEP.ckpt` regularly and at the end, `best-step-STEP.ckpt` for the best
`val/selection`, and `interrupted-step-STEP.ckpt` if a signal stopped the run. Training can be resumed from each.

It does not know Lightning.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lit_transformer.checkpoints import folder as model_folder
from lit_transformer.checkpoints.folder import TrainedModel
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.files import check_regular, whole_file
from lit_transformer.model.transformer import Transformer

FOLDER = "checkpoints"
ENTRY = "lit_transformer"
WEIGHTS = "state_dict"
WEIGHTS_PREFIX = "transformer."
"""The LightningModule's attribute that holds the model."""
FORMAT = 1
_STEP_NAME = re.compile(r"(best-|interrupted-)?step-(\d+)\.ckpt")


class Found(NamedTuple):
    """A checkpoint and what `read` gives of it."""

    path: Path
    content: dict[str, Any]


def step_path(folder: Path, step: int) -> Path:
    """The regular checkpoint of an optimizer step."""
    return folder / f"step-{step:08d}.ckpt"


def interrupted_path(folder: Path, step: int) -> Path:
    """The checkpoint that a signal asked for after `step`. It is never averaged."""
    return folder / f"interrupted-step-{step:08d}.ckpt"


def best_path(folder: Path, step: int) -> Path:
    """The checkpoint with the best `val/selection`, which was reached at `step`."""
    return folder / f"best-step-{step:08d}.ckpt"


def step_of(path: Path) -> int | None:
    """The step that a checkpoint's name tells, if it is named as this project names them."""
    match = _STEP_NAME.fullmatch(path.name)
    return int(match.group(2)) if match else None


def describe(transformer: Transformer, tokenizer: Tokenizer, *, source: str, target: str, step: int) -> dict[str, Any]:
    """The entry that makes Lightning's checkpoint a complete translator; plain types only."""
    return {
        "format": FORMAT,
        "transformer": asdict(transformer.config),
        "tokenizer": tokenizer.model_bytes,
        "source": source,
        "target": target,
        "step": step,
    }


def save(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Writes beside the place, flushes to the disk and renames: there is the old file or the new one, never half."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished, unfinished.open("wb") as file:
            torch.save(dict(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        # torch's writer stumbles over what a full disk left undone, and its own complaint covers the disk's.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise UserError(
            f"cannot write the checkpoint {path}: {cause.strerror or cause}; make room or choose another place"
        ) from error


def read(path: Path) -> dict[str, Any]:
    """A checkpoint of one's own run as plain data, every byte as it was written; no code in it can run."""
    try:
        check_regular(path)
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise ValueError("a checksum is wrong")  # torch does not look at them
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}: give a file, a run folder or a folder above runs") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder, not the file of a checkpoint: give a step-STEP.ckpt") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds something other than weights and plain values, or is not a checkpoint: it was not loaded"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    # torch raises whatever its reader meets: RuntimeError, EOFError, KeyError, ValueError, UnicodeDecodeError, ...
    except Exception as error:
        raise UserError(f"{path} is damaged, truncated or not a checkpoint: take another one") from error
    if not isinstance(checkpoint, dict) or ENTRY not in checkpoint:
        raise UserError(
            f"{path} is not a checkpoint of lit_transformer: train one with `python -m lit_transformer.fit`"
        )
    if (written := checkpoint[ENTRY].get("format")) != FORMAT:
        raise UserError(f"{path} has format {written}, this version reads {FORMAT}: take the version that wrote it")
    return checkpoint


def load(place: str | Path) -> TrainedModel:
    """A trained model to translate with.

    Args:
        place: A model folder, `hf:NAME` for one of the Hugging Face Hub, a checkpoint file, or a run or a folder above
            runs, whose best checkpoint it is (`find`).
    """
    if str(place).startswith(model_folder.HUB_PREFIX):
        return model_folder.download(str(place).removeprefix(model_folder.HUB_PREFIX))
    path = find(place)
    if model_folder.is_model_folder(path):
        return model_folder.load(path)
    checkpoint = read(path)
    return _model(checkpoint[ENTRY], checkpoint[WEIGHTS], path)


def _model(entry: Mapping[str, Any], prefixed: Mapping[str, Tensor], path: Path) -> TrainedModel:
    weights = {name.removeprefix(WEIGHTS_PREFIX): value for name, value in prefixed.items()}
    tokenizer = Tokenizer(entry["tokenizer"])
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    transformer = model_folder.empty_model(entry["transformer"], tokenizer.vocab_size, shapes, path)
    transformer = model_folder.filled(transformer, weights, path)
    return TrainedModel(transformer, tokenizer, entry["source"], entry["target"], entry["step"], path)


def find(run_or_file: str | Path) -> Path:
    """The checkpoint that is meant.

    A file or a model folder is itself. In a run folder it is the best checkpoint, else the one of the latest step. In a
    folder above runs it is that of the run that was written to last.
    """
    path = _existing(run_or_file)
    if not path.is_dir() or model_folder.is_model_folder(path):
        return path
    files = _named(newest_folder(path))
    return max([file for file in files if _kind(file) == "best-"] or files, key=_age)


def newest_folder(root: str | Path) -> Path:
    """The folder with the checkpoints of a run; of the one that was written to last if there are several at `root`."""
    path = _existing(root)
    if not path.is_dir():
        raise UserError(f"{path} is a file: give a run folder or a folder above runs")
    for folder in _folders(path):
        return folder
    raise UserError(f"there is no checkpoint in {path} or below it: give a file, a run folder or a folder above runs")


def recent_steps(folder: Path) -> list[Path]:
    """The regular checkpoints in a folder, oldest step first."""
    return sorted((file for file in _named(folder) if _kind(file) is None), key=_age)


def interrupted_steps(folder: Path) -> list[Path]:
    """The checkpoints in a folder that signals asked for, oldest step first."""
    return sorted((file for file in _named(folder) if _kind(file) == "interrupted-"), key=_age)


def newest_readable(root: Path) -> tuple[Found | None, list[Path]]:
    """The latest readable checkpoint below `root`, and the later ones that are damaged.

    Runs count by the time of their last checkpoint, checkpoints of a run by their step: copying a run changes times.
    """
    damaged: list[Path] = []
    for folder in _folders(root):
        for file in sorted(_named(folder), key=_age, reverse=True):
            try:
                return Found(file, read(file)), damaged
            except UserError:
                damaged.append(file)
    return None, damaged


def average(paths: Sequence[Path]) -> TrainedModel:
    """The mean of the weights of several checkpoints (section 6.1), to translate with.

    Summed in float64, so that the mean of copies is the copy to the bit. Everything else is the last one's.
    """
    first = last = read(paths[0])
    total = {name: value.double() for name, value in first[WEIGHTS].items()}
    for path in paths[1:]:
        last = read(path)
        for field in ("transformer", "tokenizer", "source", "target"):
            if _kept(last, field) != _kept(first, field):
                raise UserError(f"{path} has another {field} than {paths[0]}: average checkpoints of one run")
        if _shapes(last) != _shapes(first):
            raise UserError(f"{path} has other weights than {paths[0]}: average checkpoints of one run")
        for name, value in last[WEIGHTS].items():
            total[name] += value
    weights = {name: (value / len(paths)).to(last[WEIGHTS][name].dtype) for name, value in total.items()}
    return _model(last[ENTRY], weights, paths[-1])


def _kept(checkpoint: Mapping[str, Any], field: str) -> object:
    """A field as it stays the same in a run, where dropout may change on the way."""
    value = checkpoint[ENTRY][field]
    return {**value, "dropout": None} if field == "transformer" else value


def _shapes(checkpoint: Mapping[str, Any]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in checkpoint[WEIGHTS].items()}


def _existing(run_or_file: str | Path) -> Path:
    try:
        path = Path(run_or_file).expanduser()
        path.stat()
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}: give a file, a run folder or a folder above runs") from error
    # A home that is not known, a name that no file can have.
    except (OSError, RuntimeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot read the checkpoint {str(run_or_file)[:200]}: {reason}; correct the path") from error
    return path


def _folders(root: Path) -> list[Path]:
    """The folders with checkpoints at `root` and below, the one written to last first; links to folders count."""
    found: list[Path] = []
    seen: set[str] = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:  # a link that leads back
            subfolders.clear()
        elif any(_STEP_NAME.fullmatch(name) for name in [*files, *subfolders]):
            found.append(Path(folder))
        seen.add(place)
    return sorted(found, key=lambda folder: (max(map(_time, _named(folder)), default=0), folder), reverse=True)


def _named(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if step_of(file) is not None]


def _kind(path: Path) -> str | None:
    """What a checkpoint's name begins with; None for a regular one."""
    match = _STEP_NAME.fullmatch(path.name)
    return match.group(1) if match else None


def _age(path: Path) -> tuple[int, str]:
    """A key that sorts the checkpoints of a run by step. The regular one of a step comes last."""
    return step_of(path) or 0, path.name


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # a run that goes on has just deleted it
        return 0
