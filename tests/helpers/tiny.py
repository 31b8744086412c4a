"""The smallest recipe and corpus on which every command runs, for tests of mistakes and of hostile files."""

from pathlib import Path
from typing import Any

ENGLISH, GERMAN = "The cat sleeps.\nA dog eats.\n", "Die Katze schläft.\nEin Hund frisst.\n"
TINY_CORPUS = {
    f"{split}.{language}": text * 9
    for split in ("train", "valid", "test")
    for language, text in (("en", ENGLISH), ("de", GERMAN))
}
"""The text of each file of the corpus."""
TINY_RECIPE: dict[str, Any] = {
    "model": {"transformer": {"d_model": 16, "d_ff": 16, "num_heads": 2, "num_layers": 1}, "vocab_size": 40},
    "data": {"character_coverage": 1.0, "tokens_per_batch": 100, "max_tokens_per_device": 100},
    "trainer": {"accelerator": "cpu", "devices": 1, "precision": "32-true", "max_steps": 2},
    "checkpoints": {"every_n_train_steps": 1},
}


def write_tiny_corpus(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, text in TINY_CORPUS.items():
        (folder / name).write_text(text, encoding="utf-8")
