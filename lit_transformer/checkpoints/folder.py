"""The model folder, in Hugging Face's layout: the form in which models are exchanged.

| file | content |
|---|---|
| `config.json` | architecture, languages, training step, versions |
| `model.safetensors` | weights |
| `sentencepiece.model` | vocabulary, the target's if there are two |
| `sentencepiece.source.model` | the source's vocabulary, if there are two |
| `README.md` | model card for people; it is never read |

The format cannot express code. An unknown field, a missing tensor and a surplus tensor are errors. This module knows
neither checkpoints nor training.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Tensor

from lit_transformer.checkpoints.format_1 import format_2_weights
from lit_transformer.checkpoints.trained_model import (
    SEARCH_ENTRY,
    TrainedModel,
    build_transformer,
    search_entry,
    search_in,
)
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.files import check_regular
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
VOCABULARY_FILE = "sentencepiece.model"
SOURCE_VOCABULARY_FILE = "sentencepiece.source.model"
CARD_FILE = "README.md"
MODEL_FOLDER_FILES = (CONFIG_FILE, WEIGHTS_FILE, VOCABULARY_FILE, SOURCE_VOCABULARY_FILE, CARD_FILE)
MODEL_TYPE = "lit_transformer"
FORMAT = 2
_ARCHITECTURE = [field.name for field in fields(TransformerConfig)]
_ALWAYS_WRITTEN = _ARCHITECTURE[: _ARCHITECTURE.index("max_positions") + 1]
"""Fields of every folder. Version 0.1 did not have the later ones, whose defaults are what it did."""
_FIELDS: dict[str, type] = {
    "model_type": str,
    "format": int,
    "vocab_size": int,
    "source": str,
    "target": str,
    "step": int,
    "versions": dict,
}
"""Fields of `config.json`, without those of the architecture."""
_SOURCE_VOCAB_SIZE = "source_vocab_size"
"""The field that says that there are two vocabularies."""


def write_model_folder(
    folder: Path,
    transformer: Transformer,
    vocabularies: Vocabularies,
    source: str,
    target: str,
    step: int,
    search: SearchSettings = SearchSettings(),
) -> None:
    """Write a model into an empty folder (`files.new_folder`)."""
    config = {
        "model_type": MODEL_TYPE,
        "format": FORMAT,
        **asdict(transformer.config),
        "vocab_size": vocabularies.target.vocab_size,
        "source": source,
        "target": target,
        "step": step,
        **search_entry(search),
        "versions": {name: version(name) for name in ("torch", "safetensors", "sentencepiece")},
    }
    models = {VOCABULARY_FILE: vocabularies.target.model_bytes}
    if not vocabularies.are_shared:
        config[_SOURCE_VOCAB_SIZE] = vocabularies.source_vocab_size
        models[SOURCE_VOCABULARY_FILE] = vocabularies.source.model_bytes
    weights = transformer.state_dict()
    card = _card(source, target, step, sum(value.numel() for value in weights.values()))
    write_files(
        folder,
        {CONFIG_FILE: json_bytes(config), WEIGHTS_FILE: weights_bytes(weights), **models, CARD_FILE: card.encode()},
    )


def write_files(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files by name. They are on the disk when this returns."""
    for name, content in contents.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Values as a file of JSON."""
    return f"{json.dumps(values, indent=2)}\n".encode()


def weights_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Weights as a file of safetensors, marked as PyTorch's for readers that ask."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    return to_safetensors(tensors, metadata={"format": "pt"})


def is_model_folder(folder: Path) -> bool:
    """Whether a folder has a `config.json`."""
    return os.path.lexists(folder / CONFIG_FILE)


def load_model_folder(folder: Path) -> TrainedModel:
    """Read the trained model in a model folder.

    Raises:
        UserError: If a file is missing, damaged, or does not fit the others.
    """
    config = _read_config(folder / CONFIG_FILE)
    vocabularies = Vocabularies.shared(Tokenizer.from_file(folder / VOCABULARY_FILE))
    if _SOURCE_VOCAB_SIZE in config:
        vocabularies = vocabularies._replace(source=Tokenizer.from_file(folder / SOURCE_VOCABULARY_FILE))
    sizes = {"vocab_size": vocabularies.target.vocab_size, _SOURCE_VOCAB_SIZE: vocabularies.source_vocab_size}
    for name, size in sizes.items():
        if config.get(name) != size:
            raise UserError(
                f"{folder / CONFIG_FILE}: {name} is {config.get(name)!r:.50}, but its vocabulary has {size} tokens; "
                "copy the folder again"
            )
    weights = read_weights(folder / WEIGHTS_FILE)
    if config["format"] == 1:
        weights = format_2_weights(weights)
    architecture = {name: config[name] for name in _ARCHITECTURE if name in config}
    transformer = build_transformer(architecture, weights, vocabularies=vocabularies, path=folder)
    search = search_in(config, folder / CONFIG_FILE)
    return TrainedModel(transformer, vocabularies, config["source"], config["target"], config["step"], folder, search)


def download_model_folder(name: str) -> Path:
    """Download a model of the Hugging Face Hub into Hugging Face's own cache.

    Args:
        name: `OWNER/MODEL`.

    Raises:
        UserError: If there is no such model, it cannot be downloaded, or another program wrote it.
    """
    # The small file first, so that a model of another program is refused before its weights are downloaded.
    folder = download_files(name, [CONFIG_FILE])
    _read_config(folder / CONFIG_FILE)
    files = [CONFIG_FILE, WEIGHTS_FILE, VOCABULARY_FILE, SOURCE_VOCABULARY_FILE]
    return download_files(name, files, revision=folder.name)


def download_files(name: str, files: list[str], revision: str | None = None) -> Path:
    """Download files of a model of the Hugging Face Hub into Hugging Face's own cache, and return their folder.

    Args:
        name: `OWNER/MODEL`.
        files: Names or patterns. Those that are not there are left out.
        revision: The commit, or None for the newest one.

    Raises:
        UserError: If there is no such model, or it cannot be downloaded.
    """
    # Imported here, because it takes 0.3 seconds, and most models are on this machine.
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except Exception as error:  # which ones depends on the HTTP library below huggingface_hub
        raise UserError(
            f"cannot get the model {name!r} from the Hugging Face Hub: {innermost_reason(error)}; correct the name, "
            "run `hf auth login` if it is private, or give a folder that holds a copy of it"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a model folder.

    Raises:
        UserError: If it cannot be read or is not JSON with names and values.
    """
    check_regular(path)
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {innermost_reason(error)}; copy the folder again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {innermost_reason(error)}; copy the folder again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no names and values; copy the folder again")
    return content


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file of a model folder. Raises UserError if it cannot be read."""
    check_regular(path)
    try:
        # Cloned, because safetensors maps the file into memory, and the file can change.
        return {name: value.clone() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the weights {path}: {innermost_reason(error)}; copy the folder again") from error


def _read_config(path: Path) -> dict[str, Any]:
    config = read_json(path)
    if config.get("model_type") != MODEL_TYPE:
        raise UserError(f"{path} is not of model_type {MODEL_TYPE!r}, so another program wrote it: give another model")
    if config.get("format") not in (1, FORMAT):
        raise UserError(
            f"{path} has format {config.get('format')!r:.50}, this version reads up to {FORMAT}: "
            "take the version that wrote it"
        )
    if missing := sorted({*_FIELDS, *_ALWAYS_WRITTEN} - config.keys()):
        raise UserError(f"{path} lacks {', '.join(missing)}: copy the folder again")
    if unknown := sorted(config.keys() - {*_FIELDS, *_ARCHITECTURE, _SOURCE_VOCAB_SIZE, SEARCH_ENTRY}):
        raise UserError(f"{path} has unknown fields ({', '.join(unknown):.200}): take the version that wrote it")
    for name, kind in _FIELDS.items():
        if type(config[name]) is not kind:
            raise UserError(f"{path}: {name} is {config[name]!r:.50}, not a {kind.__name__}; copy the folder again")
    return config


def _card(source: str, target: str, step: int, num_parameters: int) -> str:
    return f"""---
library_name: {MODEL_TYPE}
pipeline_tag: translation
language: {json.dumps([source, target])}
---

# Translation from {source} to {target}

The Transformer of [Attention Is All You Need](https://arxiv.org/abs/1706.03762) with {num_parameters:,} parameters,
trained for {step:,} steps with lit_transformer.

```python
from lit_transformer import Translator

translator = Translator.from_pretrained("FOLDER_OR_NAME")
translator.translate(["A sentence."])
```

```bash
python -m lit_transformer.translate --checkpoint FOLDER < in.txt > out.txt
```
"""
