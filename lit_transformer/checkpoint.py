"""What a checkpoint is: a complete translator in one file, of plain types alone, so that loading runs no code.

It is Lightning's checkpoint (weights under `state_dict`, the training state beside them) with one more entry,
`lit_transformer`: the architecture, the SentencePiece model's bytes, the languages and the step. A run keeps its
checkpoints in `checkpoints/`: `step-STEP.ckpt` regularly and at the end, `best-step-STEP.ckpt` for the best BLEU.

It does not know Lightning.
"""

import os
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_transformer.batch import PAD_ID
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer

FOLDER = "checkpoints"
ENTRY = "lit_transformer"
WEIGHTS = "state_dict"
WEIGHTS_PREFIX = "transformer."
"""The LightningModule's attribute that holds the model."""
FORMAT = 1
_STEP_NAME = re.compile(r"(best-)?step-(\d+)\.ckpt")


@dataclass(frozen=True)
class TrainedModel:
    """What translating needs, from one file."""

    transformer: Transformer
    tokenizer: Tokenizer
    source: str
    target: str
    step: int
    path: Path


def step_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of an optimizer step lies."""
    return folder / f"step-{step:08d}.ckpt"


def best_path(folder: Path, step: int) -> Path:
    """Where the checkpoint with the best validation BLEU lies, which was reached at `step`."""
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
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            torch.save(dict(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise UserError(f"cannot write the checkpoint {path}: {error.strerror or error}; make room there") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """A checkpoint of this project as plain data; no code in it can run."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"there is no checkpoint {path}: give a file, a run folder or a folder above runs") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder, not a checkpoint") from error
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds something other than weights and plain values, or is not a checkpoint: it was not loaded"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    # torch raises whatever its reader meets: RuntimeError, EOFError, KeyError, ValueError, UnicodeDecodeError, ...
    except Exception as error:
        raise UserError(f"{path} is damaged, truncated or not a checkpoint: take another one") from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get(ENTRY), dict):
        raise UserError(
            f"{path} is not a checkpoint of lit_transformer: train one with `python -m lit_transformer.fit`"
        )
    if checkpoint[ENTRY].get("format") != FORMAT:
        raise UserError(f"{path} has format {checkpoint[ENTRY].get('format')!r}, this version reads {FORMAT}")
    return checkpoint


def load(run_or_file: str | Path) -> TrainedModel:
    """The model and the tokenizer of a checkpoint file, or of the best one of a run (`find`)."""
    path = find(run_or_file)
    checkpoint = read(path)
    entry = checkpoint[ENTRY]
    try:
        tokenizer = Tokenizer(entry["tokenizer"])
        # On the meta device nothing is allocated: sizes that a file claims cost nothing until its weights fit them.
        with torch.device("meta"):
            transformer = Transformer(
                TransformerConfig(**entry["transformer"]), vocab_size=tokenizer.vocab_size, pad_id=PAD_ID
            )
        transformer.load_state_dict(_weights(checkpoint), assign=True)
        source, target, step = str(entry["source"]), str(entry["target"]), int(entry["step"])
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path} does not hold what a checkpoint of lit_transformer holds: {reason}") from error
    return TrainedModel(transformer.eval(), tokenizer, source, target, step, path)


def _weights(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    weights = {}
    for name, value in checkpoint[WEIGHTS].items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} is not a tensor")
        weights[name.removeprefix(WEIGHTS_PREFIX)] = value
    return weights


def find(run_or_file: str | Path) -> Path:
    """The checkpoint that is meant.

    A file is itself. In a run folder it is the best by BLEU, else the latest step; above several runs, that of the
    run that was written to last.
    """
    path = Path(run_or_file).expanduser()
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"there is no checkpoint {path}: give a file, a run folder or a folder above runs")
        return path
    folders = {file.parent for file in path.rglob("*.ckpt") if step_of(file) is not None}
    if not folders:
        raise UserError(
            f"there is no checkpoint in {path} or below it: give a file, a run folder or a folder above runs"
        )
    newest = max(folders, key=lambda folder: (max(_time(file) for file in _named(folder)), folder))
    best = [file for file in _named(newest) if file.name.startswith("best-")]
    return max(best or _named(newest), key=lambda file: (step_of(file), file))


def recent_steps(run: Path) -> list[Path]:
    """The regular checkpoints of a run, oldest step first."""
    folder = run / FOLDER if (run / FOLDER).is_dir() else run
    return sorted(file for file in _named(folder) if not file.name.startswith("best-"))


def newest_readable(root: Path) -> tuple[Path | None, list[Path]]:
    """The last written readable checkpoint below `root`, and those newer ones that are damaged."""
    files = [file for file in root.rglob("step-*.ckpt") if step_of(file) is not None]
    damaged: list[Path] = []
    for file in sorted(files, key=lambda file: (_time(file), step_of(file)), reverse=True):
        if is_whole(file):
            return file, damaged
        damaged.append(file)
    return None, damaged


def is_whole(path: Path) -> bool:
    """Whether a file is a checkpoint of this project, with every byte as it was written (by its checksums)."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        read(path)
    except (OSError, zipfile.BadZipFile, UserError, RuntimeError, ValueError, EOFError, NotImplementedError):
        return False
    return True


def average(paths: Sequence[Path]) -> dict[str, Any]:
    """The mean of the weights of several checkpoints (section 6.1), as a checkpoint to translate with.

    Summed in float64, so that the mean of copies is the copy to the bit. Everything else is the last one's, but the
    training state, which belongs to no single trajectory any more.
    """
    total: dict[str, Tensor] = {}
    last: dict[str, Any] = {}
    for path in paths:
        last = read(path)
        for name, value in last[WEIGHTS].items():
            if name in total and total[name].shape != value.shape:
                raise UserError(f"{path} is of another model than {paths[0]}: {name} has another shape")
            total[name] = total[name] + value.double() if name in total else value.double()
        if total.keys() != last[WEIGHTS].keys():
            raise UserError(f"{path} is of another model than {paths[0]}: it has other weights")
        if last[ENTRY]["tokenizer"] != read(paths[0])[ENTRY]["tokenizer"]:
            raise UserError(f"{path} has another vocabulary than {paths[0]}: average checkpoints of one run")
    weights = {name: (value / len(paths)).to(last[WEIGHTS][name].dtype) for name, value in total.items()}
    return {WEIGHTS: weights, ENTRY: last[ENTRY]}


def _named(folder: Path) -> list[Path]:
    return [file for file in folder.iterdir() if step_of(file) is not None]


def _time(path: Path) -> int:
    return path.stat().st_mtime_ns
