"""Trainer and data of scripts, without the command line."""

from pathlib import Path
from typing import Any

import lightning as L

from lit_transformer import TranslationData


def quiet_trainer(**settings: Any) -> L.Trainer:
    """A trainer on one CPU that prints nothing."""
    return L.Trainer(accelerator="cpu", devices=1, enable_progress_bar=False, enable_model_summary=False, **settings)


def tiny_data(corpus: Path, **settings: Any) -> TranslationData:
    """The data of a tiny corpus, whose cache lies beside it."""
    small: dict[str, Any] = {
        "character_coverage": 1.0,
        "tokens_per_batch": 100,
        "cache_dir": str(corpus.parent / "cache"),
    }
    return TranslationData(str(corpus), **(small | settings))
