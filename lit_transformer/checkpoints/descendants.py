"""A trained descendant: a GPT, BERT, BART, T5 or ViT with what using it needs, wherever it was read from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

COMMANDS = {"gpt": "generate, attention", "bert": "attention", "bart": "attention", "t5": "attention", "vit": "test"}
"""The commands that take each model."""


@dataclass(frozen=True)
class TrainedDescendant:
    """A model with its vocabulary.

    Args:
        model: The model, in evaluation mode.
        name: gpt, bert, bart, t5 or vit.
        tokenizer: Its vocabulary. None for a model of images, or if none was there.
        special: The ids of its special tokens.
        step: Optimizer steps that it was trained for. 0 for models of others.
        path: The file or folder that it was read from.
        classes: Names of the classes, for a model of images.
    """

    model: nn.Module
    name: str
    tokenizer: Any
    special: Any
    step: int
    path: Path
    classes: tuple[str, ...] = ()
