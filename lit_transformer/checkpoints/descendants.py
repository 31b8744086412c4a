"""Trained descendants of the Transformer (GPT, BERT, BART, T5, ViT): the model and what using it needs.

A run's checkpoint holds one as plain data in the same entry as a translator (`format.py`), with its name beside the
architecture.
"""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID
from lit_transformer.checkpoints.format import (
    FORMAT,
    MODEL_ENTRY,
    NAME_ENTRY,
    VOCABULARY_ENTRIES,
    WEIGHTS_ENTRY,
    WEIGHTS_PREFIX,
    note_foreign,
    read_checkpoint,
    to_trained_model,
)
from lit_transformer.checkpoints.places import find_checkpoint
from lit_transformer.checkpoints.trained_model import TrainedModel, load_weights, no_memory
from lit_transformer.data.objectives import MASK
from lit_transformer.data.text_tokenizer import SpecialIds, TextTokenizer
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.model.config import TransformerConfig

CLASSES = {
    "gpt": "gpt.GPT",
    "bert": "bert.BERT",
    "bart": "transformer.Transformer",
    "t5": "transformer.Transformer",
    "vit": "vit.ViT",
}
"""The module of `lit_transformer.model` and the class of each descendant, by its name."""


@dataclass(frozen=True)
class TrainedDescendant:
    """A trained model of another kind than the encoder-decoder that translates.

    Args:
        model: The model, in float32 and in evaluation mode. It has the attribute `config`.
        name: What it is: `gpt`, `bert`, `bart`, `t5` or `vit`.
        tokenizer: Its tokenizer. None if it does not read text, or was trained on batches of ids.
        special: The tokenizer's special ids.
        step: Optimizer steps that it was trained for.
        path: The file or folder that it was read from.
        classes: The names of the classes that a ViT tells apart.
    """

    model: nn.Module
    name: str
    tokenizer: TextTokenizer | None
    special: SpecialIds
    step: int
    path: Path
    classes: tuple[str, ...] = ()


def special_ids(tokenizer: Tokenizer | None) -> SpecialIds:
    """Return the special ids of one of our vocabularies."""
    has_mask = tokenizer is not None and tokenizer.keeps(MASK)
    return SpecialIds(BOS_ID, EOS_ID, PAD_ID, tokenizer.encode([MASK])[0][-1] if tokenizer and has_mask else None)


def descendant_entry(
    name: str,
    config: TransformerConfig,
    arguments: Mapping[str, int],
    *,
    tokenizer: Tokenizer | None,
    classes: tuple[str, ...] = (),
    step: int,
) -> dict[str, Any]:
    """Return the entry that makes Lightning's checkpoint a complete descendant. It has plain types only.

    Args:
        name: As in `TrainedDescendant`, like all arguments without their own line.
        config: The architecture.
        arguments: The other arguments of the model's class.
        tokenizer: Its vocabulary.
        classes: Names.
        step: Optimizer steps.
    """
    return {
        "format": FORMAT,
        NAME_ENTRY: name,
        "transformer": asdict(config),
        "arguments": dict(arguments),
        **({VOCABULARY_ENTRIES[0]: tokenizer.model_bytes} if tokenizer else {}),
        "classes": list(classes),
        "step": step,
    }


def empty_descendant(entry: Mapping[str, Any], *, num_weights: int, path: Path) -> nn.Module:
    """Build the model of an entry with weights that take no memory.

    Args:
        entry: As `descendant_entry` returns it.
        num_weights: Number of weights that are there. An architecture with more layers is refused.
        path: The file that it was read from, for errors.

    Raises:
        UserError: If there is no such model.
    """
    try:
        module, kind = CLASSES[entry[NAME_ENTRY]].split(".")
        config = TransformerConfig(**entry["transformer"])
        if config.num_layers > num_weights:  # building layers that do not exist could take hours
            raise ValueError(f"num_layers is {config.num_layers}, but there are {num_weights} weights")
        with no_memory():
            model: nn.Module = getattr(import_module(f"lit_transformer.model.{module}"), kind)(
                config, **entry["arguments"]
            )
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f"{path} holds no model of lit_transformer: {innermost_reason(error)}; take another one"
        ) from error
    return model


def load_descendant(place: str | Path) -> TrainedDescendant:
    """Read a descendant that was trained here: a checkpoint, a run folder, or a folder above runs.

    Raises:
        UserError: If there is none or it cannot be read.
    """
    path = find_checkpoint(place)
    trained = None if path.is_dir() else load_checkpoint_of_any_kind(path)
    if not isinstance(trained, TrainedDescendant):
        raise UserError(f"{path} is a model that translates, and no descendant: take `load_checkpoint`")
    return trained


def load_checkpoint_of_any_kind(path: Path) -> TrainedModel | TrainedDescendant:
    """Read the trained model in the checkpoint of a run.

    Raises:
        UserError: If the file cannot be read or holds no model.
    """
    # The training state is not read. The weights are copied, because the file may change later.
    checkpoint = read_checkpoint(path, mmap=True)
    if NAME_ENTRY in checkpoint[MODEL_ENTRY]:
        trained = to_descendant(checkpoint, path)
        return replace(trained, model=deepcopy(trained.model))
    translator = to_trained_model(checkpoint, path)
    return replace(translator, transformer=deepcopy(translator.transformer))


def to_descendant(checkpoint: Mapping[str, Any], path: Path) -> TrainedDescendant:
    """Return the descendant in the content of a checkpoint."""
    entry, saved = checkpoint[MODEL_ENTRY], checkpoint[WEIGHTS_ENTRY]
    model = empty_descendant(entry, num_weights=len(saved), path=path)
    names = {WEIGHTS_PREFIX + name: name for name in model.state_dict()}
    note_foreign(path, [name for name in saved if name not in names])
    model = load_weights(model, {names[name]: value for name, value in saved.items() if name in names}, path)
    learned = entry.get(VOCABULARY_ENTRIES[0])
    tokenizer = None if learned is None else Tokenizer(learned)
    return TrainedDescendant(
        model,
        entry[NAME_ENTRY],
        tokenizer,
        special_ids(tokenizer),
        entry["step"],
        path,
        tuple(entry.get("classes", ())),
    )
