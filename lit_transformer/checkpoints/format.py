"""A checkpoint: one file with a complete translator and its training state, for the run that wrote it.

It is Lightning's checkpoint (weights under `state_dict`, the training state beside them) with one more entry,
`lit_transformer`: the architecture, the bytes of the SentencePiece models, the languages and the step.

Models are exchanged as model folders (`folder.py`). This module does not know Lightning.
"""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from lit_transformer.checkpoints.format_1 import to_format_2
from lit_transformer.checkpoints.trained_model import TrainedModel, build_transformer
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.files import check_regular, whole_file
from lit_transformer.model.transformer import Transformer

MODEL_ENTRY = "lit_transformer"
WEIGHTS_ENTRY = "state_dict"
WEIGHTS_PREFIX = "transformer."
"""The LightningModule's attribute that holds the model."""
FORMAT = 2
VOCABULARY_ENTRIES = ("tokenizer", "source_tokenizer")
"""Parts of the entry. The second one is there only if the source has a vocabulary of its own."""


def model_entry(
    transformer: Transformer, vocabularies: Vocabularies, *, source: str, target: str, step: int
) -> dict[str, Any]:
    """The entry that makes Lightning's checkpoint a complete translator. It has plain types only."""
    return {
        "format": FORMAT,
        "transformer": asdict(transformer.config),
        **vocabulary_entries(vocabularies),
        "source": source,
        "target": target,
        "step": step,
    }


def vocabulary_entries(vocabularies: Vocabularies) -> dict[str, bytes]:
    """The SentencePiece models, as they are in `model_entry`."""
    tokenizers = [vocabularies.target] if vocabularies.are_shared else [vocabularies.target, vocabularies.source]
    return {name: each.model_bytes for name, each in zip(VOCABULARY_ENTRIES, tokenizers, strict=False)}


def save_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint. After a crash there is the former file or the new one, never half of it.

    Raises:
        UserError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as unfinished, unfinished.open("wb") as file:
            torch.save(dict(checkpoint), file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:
        # On a full disk torch's writer raises a RuntimeError of its own, and the disk's error is only its context.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise UserError(
            f"cannot write the checkpoint {path}: {innermost_reason(cause)}; make room or choose another place"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint as plain data. Its checksums are verified, and no code in it can run.

    Raises:
        UserError: If the file cannot be read, is damaged, or is not a checkpoint of this format.
    """
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch verifies no checksums
                raise ValueError("a checksum is wrong")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(
            f"cannot read the checkpoint {path}: {innermost_reason(error)}; give a step-STEP.ckpt"
        ) from error
    except Exception as error:  # torch's reader raises RuntimeError, EOFError, KeyError, UnpicklingError, ...
        raise UserError(f"{path} is damaged or not a checkpoint, and was not loaded: take another one") from error
    if not isinstance(checkpoint, dict) or MODEL_ENTRY not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of lit_transformer: take another one")
    upgrade_checkpoint(checkpoint)
    if (written := checkpoint[MODEL_ENTRY].get("format")) != FORMAT:
        raise UserError(
            f"{path} has format {written}, this version reads up to {FORMAT}: take the version that wrote it"
        )
    return checkpoint


def written_format(path: Path) -> int:
    """The format of a checkpoint in the file. The checkpoint must be readable (`read_checkpoint`)."""
    entry = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[MODEL_ENTRY]
    return int(entry["format"])


def upgrade_checkpoint(checkpoint: dict[str, Any]) -> None:
    """Change the content of a checkpoint to the newest format."""
    if checkpoint[MODEL_ENTRY].get("format") == 1:
        to_format_2(checkpoint)


def load_checkpoint_file(path: Path) -> TrainedModel:
    """Read the trained model in a checkpoint.

    Raises:
        UserError: If the file cannot be read or holds no such model.
    """
    return to_trained_model(read_checkpoint(path), path)


def to_trained_model(checkpoint: Mapping[str, Any], path: Path) -> TrainedModel:
    """The trained model in the content of a checkpoint."""
    entry = checkpoint[MODEL_ENTRY]
    tokenizer, source_bytes = Tokenizer(entry["tokenizer"]), entry.get("source_tokenizer")
    vocabularies = Vocabularies(Tokenizer(source_bytes) if source_bytes else tokenizer, tokenizer)
    weights = {name.removeprefix(WEIGHTS_PREFIX): value for name, value in checkpoint[WEIGHTS_ENTRY].items()}
    transformer = build_transformer(entry["transformer"], weights, vocabularies=vocabularies, path=path)
    return TrainedModel(transformer, vocabularies, entry["source"], entry["target"], entry["step"], path)
