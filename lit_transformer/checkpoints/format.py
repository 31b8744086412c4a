"""A checkpoint: one file with a complete translator and its training state, for the run that wrote it.

It is Lightning's checkpoint (weights under `state_dict`, the training state beside them) with one more entry,
`lit_transformer`: the architecture, the bytes of the SentencePiece models, the languages and the step.

Models are exchanged as model folders (`folder.py`). This module does not know Lightning.
"""

import os
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint

from lit_transformer.checkpoints.format_1 import to_format_2
from lit_transformer.checkpoints.plain_data import check_plain
from lit_transformer.checkpoints.trained_model import (
    TrainedModel,
    empty_transformer,
    load_weights,
    search_entry,
    search_in,
)
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.files import check_regular, whole_file
from lit_transformer.model.transformer import Transformer
from lit_transformer.notes import counted, print_note
from lit_transformer.search_settings import SearchSettings

MODEL_ENTRY = "lit_transformer"
WEIGHTS_ENTRY = "state_dict"
WEIGHTS_PREFIX = "transformer."
"""The LightningModule's attribute that holds the model."""
FORMAT = 2
OPTIMIZER_ENTRY = "optimizer_states"
"""The part of the training state that every checkpoint has from which a run can be resumed."""
KEPT_ENTRIES = ("epoch", "global_step", "pytorch-lightning_version", WEIGHTS_ENTRY, "loops", MODEL_ENTRY)
"""What remains without the training state, beside hyper-parameters: what Lightning's `save_weights_only` writes."""
FORMER_CALLBACK = "Checkpoints"
"""The callback that kept the best score in version 0.1. Now it is `best_checkpoint`."""
NAME_ENTRY = "descendant"
"""The part of the entry that names a model of another kind (`descendants.py`). The entry of a translator has none."""
USES = {
    "gpt": "`generate` and `attention` take it",
    "bert": "`attention` takes it",
    "bart": "`attention` takes it",
    "t5": "`attention` takes it",
    "vit": "docs/descendants.md shows how to use it in Python",
}
"""What models of other kinds are for, in messages."""
VOCABULARY_ENTRIES = ("tokenizer", "source_tokenizer")
"""Parts of the entry. The second one is there only if the source has a vocabulary of its own."""
_WRAPPERS = re.compile(r"(?<![^.])(_forward_module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|module)\.")
"""What wrappers such as `torch.compile` and DDP put into the names of weights."""


def model_entry(
    transformer: Transformer,
    vocabularies: Vocabularies | None,
    source: str,
    target: str,
    step: int,
    search: SearchSettings = SearchSettings(),
) -> dict[str, Any]:
    """The entry that makes Lightning's checkpoint a complete translator. It has plain types only.

    A model that was trained on batches of ids may have no vocabularies. Its checkpoint does not translate.
    """
    return {
        "format": FORMAT,
        "transformer": asdict(transformer.config),
        **(vocabulary_entries(vocabularies) if vocabularies else {}),
        "source": source,
        "target": target,
        "step": step,
        **search_entry(search),
    }


def vocabulary_entries(vocabularies: Vocabularies) -> dict[str, bytes]:
    """The SentencePiece models, as they are in `model_entry`."""
    tokenizers = [vocabularies.target] if vocabularies.are_shared else [vocabularies.target, vocabularies.source]
    return {name: each.model_bytes for name, each in zip(VOCABULARY_ENTRIES, tokenizers, strict=False)}


def vocabularies_in(entry: Mapping[str, Any]) -> Vocabularies | None:
    """The vocabularies of an entry, or None if it has none."""
    if VOCABULARY_ENTRIES[0] not in entry:
        return None
    target, *source = (Tokenizer(entry[name]) for name in VOCABULARY_ENTRIES if entry.get(name))
    return Vocabularies(source[0], target) if source else Vocabularies.shared(target)


def save_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint. After a crash there is the former file or the new one, never half of it.

    Raises:
        UserError: If the file cannot be written, or could not be read back.
    """
    check_plain(checkpoint)
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


def remove_training_state(path: Path) -> None:
    """Rewrite a checkpoint without its training state. A file without one, or that cannot be read, stays as it is.

    Raises:
        UserError: If the file cannot be written.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # torch's reader raises RuntimeError, EOFError, KeyError, UnpicklingError, ...
        return
    if OPTIMIZER_ENTRY in checkpoint:
        kept = [name for name in checkpoint if name in KEPT_ENTRIES or "hparams" in name or "hyper_parameters" in name]
        save_checkpoint({name: checkpoint[name] for name in kept}, path)


def read_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint as plain data. Its checksums are verified, and no code in it can run.

    Args:
        path: The file.
        mmap: Whether each tensor is read from the file when it is used, for callers that need few of them. The file
            must not change in the meantime.

    Raises:
        UserError: If the file cannot be read, is damaged, or is not a checkpoint of this format.
    """
    check_regular(path)
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch verifies no checksums
                raise ValueError("a checksum is wrong")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError as error:
        raise UserError(
            f"cannot read the checkpoint {path}: {innermost_reason(error)}; give a step-STEP.ckpt"
        ) from error
    except Exception as error:  # torch's reader raises RuntimeError, EOFError, KeyError, UnpicklingError, ...
        raise UserError(f"{path} {_unreadable(path)}, and was not loaded: take another one") from error
    if not isinstance(checkpoint, dict) or MODEL_ENTRY not in checkpoint:
        raise UserError(f"{path} is not a checkpoint of lit_transformer: take another one")
    upgrade_checkpoint(checkpoint)
    if (written := checkpoint[MODEL_ENTRY].get("format")) != FORMAT:
        raise UserError(
            f"{path} has format {written}, this version reads up to {FORMAT}: take the version that wrote it"
        )
    return checkpoint


def _unreadable(path: Path) -> str:
    """What is wrong with a file that torch does not read."""
    with suppress(Exception):  # it reads pickled data, too
        if unsafe := get_unsafe_globals_in_checkpoint(path):
            return f"holds {', '.join(sorted(unsafe)):.200}, which can run code"
    return "is damaged or not a checkpoint"


def written_format(path: Path) -> int:
    """The format of a checkpoint in the file. The checkpoint must be readable (`read_checkpoint`)."""
    entry = torch.load(path, map_location="cpu", weights_only=True, mmap=True)[MODEL_ENTRY]
    return int(entry["format"])


def upgrade_checkpoint(checkpoint: dict[str, Any]) -> None:
    """Change the content of a checkpoint to the newest format, in which weights have their names without wrappers."""
    if WEIGHTS_ENTRY in checkpoint:  # some strategies read the weights by themselves
        checkpoint[WEIGHTS_ENTRY] = unwrapped(checkpoint[WEIGHTS_ENTRY])
    if checkpoint[MODEL_ENTRY].get("format") == 1:
        to_format_2(checkpoint)
    callbacks = checkpoint.get("callbacks", {})
    if FORMER_CALLBACK in callbacks:
        callbacks["best_checkpoint"] = callbacks.pop(FORMER_CALLBACK)


def unwrapped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights with the names that those of the model have without wrappers."""
    return {unwrapped_name(name): value for name, value in weights.items()}


def wrapped(weights: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    """Weights with those of these names that a model with wrappers has for them."""
    own = {unwrapped_name(name): name for name in names}
    return {own.get(name, name): value for name, value in weights.items()}


def unwrapped_name(name: str) -> str:
    """The name that a weight of the model has without wrappers. Other names stay."""
    bare = _WRAPPERS.sub("", name)
    return bare if bare.startswith(WEIGHTS_PREFIX) else name


def note_foreign(path: Path, names: Collection[str]) -> None:
    """Print a note about the weights in a checkpoint that are not the model's, if there are any."""
    if names:
        print_note(f"{path} also holds {owners_of(names)}, which do not belong to the model and are left out")


def owners_of(names: Iterable[str]) -> str:
    """The modules that have these weights, with their numbers of tensors."""
    owners = Counter(name.removeprefix(WEIGHTS_PREFIX).partition(".")[0] for name in names)
    return ", ".join(f"{owner} ({counted(number, 'tensor')})" for owner, number in owners.items())


def does_not_translate(path: Path, name: str) -> UserError:
    """Return the error of a command that needs a translator and was given a model of another kind."""
    use = USES.get(name, "a later version may know it")
    return UserError(f"{path} is a model of kind {name}, which does not translate: {use}")


def load_checkpoint_file(path: Path) -> TrainedModel:
    """Read the trained model in a checkpoint.

    Raises:
        UserError: If the file cannot be read or holds no such model.
    """
    # The training state, which is two thirds of the file, is not read. The weights are copied, because the file may
    # change later.
    trained = to_trained_model(read_checkpoint(path, mmap=True), path)
    return replace(trained, transformer=deepcopy(trained.transformer))


def to_trained_model(checkpoint: Mapping[str, Any], path: Path) -> TrainedModel:
    """The trained model in the content of a checkpoint."""
    entry = checkpoint[MODEL_ENTRY]
    if name := entry.get(NAME_ENTRY):
        raise does_not_translate(path, name)
    if (vocabularies := vocabularies_in(entry)) is None:
        raise UserError(
            f"{path} has no vocabulary, because its model was trained on batches of ids: read it with "
            "LitTransformer.load_from_checkpoint, and give a Translator its model and your vocabularies"
        )
    saved = checkpoint[WEIGHTS_ENTRY]
    transformer = empty_transformer(entry["transformer"], vocabularies=vocabularies, num_weights=len(saved), path=path)
    names = {WEIGHTS_PREFIX + name: name for name in transformer.state_dict()}
    note_foreign(path, [name for name in saved if name not in names])
    load_weights(transformer, {names[name]: value for name, value in saved.items() if name in names}, path)
    return TrainedModel(
        transformer, vocabularies, entry["source"], entry["target"], entry["step"], path, search_in(entry, path)
    )
