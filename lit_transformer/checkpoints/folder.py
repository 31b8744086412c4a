"""The format in which models are exchanged: a folder in Hugging Face's layout.

| file | content |
|---|---|
| `config.json` | architecture, languages, training step, versions |
| `model.safetensors` | weights |
| `sentencepiece.model` | vocabulary |
| `README.md` | model card for people; it is never read |

The format cannot express code, and reading takes no more memory than the tensors in the file. Reading is strict: an
unknown field, a missing tensor and a surplus tensor are errors. This module knows neither checkpoints nor training.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from math import prod
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from lit_transformer.batch import PAD_ID
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError, innermost_reason
from lit_transformer.files import check_regular
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
VOCABULARY = "sentencepiece.model"
CARD = "README.md"
FILES = (CONFIG, WEIGHTS, VOCABULARY, CARD)
MODEL_TYPE = "lit_transformer"
FORMAT = 1
HUB_PREFIX = "hf:"
"""`hf:NAME` is a model of the Hugging Face Hub."""
MAX_CONFIG_BYTES = 2**20
DTYPES = ("F32", "F16", "BF16")
"""Types that weights may have, as safetensors names them."""
_ARCHITECTURE = [field.name for field in fields(TransformerConfig)]
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


@dataclass(frozen=True)
class TrainedModel:
    """What translating needs, from one file or folder."""

    transformer: Transformer
    tokenizer: Tokenizer
    source: str
    target: str
    step: int
    path: Path


def write(folder: Path, transformer: Transformer, tokenizer: Tokenizer, *, source: str, target: str, step: int) -> None:
    """Write a model into an empty folder (`files.new_folder`)."""
    config = {
        "model_type": MODEL_TYPE,
        "format": FORMAT,
        **asdict(transformer.config),
        "vocab_size": tokenizer.vocab_size,
        "source": source,
        "target": target,
        "step": step,
        "versions": {name: version(name) for name in ("torch", "safetensors", "sentencepiece")},
    }
    weights = {name: value.detach().cpu().contiguous() for name, value in transformer.state_dict().items()}
    for name, content in {
        CONFIG: f"{json.dumps(config, indent=2)}\n".encode(),
        WEIGHTS: to_safetensors(weights, metadata={"format": "pt"}),
        VOCABULARY: tokenizer.model_bytes,
        CARD: _card(source, target, step, sum(value.numel() for value in weights.values())).encode(),
    }.items():
        with (folder / name).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def is_model_folder(folder: Path) -> bool:
    """Whether a folder has a `config.json`."""
    return os.path.lexists(folder / CONFIG)


def load(folder: Path) -> TrainedModel:
    """Read a model.

    Raises:
        UserError: If a file is missing, damaged, or does not fit the others.
    """
    config = _read_config(folder / CONFIG)
    tokenizer = Tokenizer.from_file(folder / VOCABULARY)
    if tokenizer.vocab_size != config["vocab_size"]:
        raise UserError(
            f"{folder / CONFIG} has vocab_size {config['vocab_size']}, {VOCABULARY} has {tokenizer.vocab_size} pieces: "
            "copy the folder again"
        )
    architecture = {name: config[name] for name in _ARCHITECTURE}
    path = folder / WEIGHTS
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            transformer = empty_model(architecture, tokenizer.vocab_size, shapes, folder)
            _check_tensors(shapes, {name: file.get_slice(name).get_dtype() for name in shapes}, transformer, path)
            # A copy: safetensors maps the file into memory, and a file can change.
            weights = {name: file.get_tensor(name).clone() for name in shapes}
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read the weights {path}: {innermost_reason(error)}; copy the file again") from error
    return TrainedModel(
        filled(transformer, weights, path), tokenizer, config["source"], config["target"], config["step"], folder
    )


def download(name: str) -> TrainedModel:
    """Read a model of the Hugging Face Hub; its files stay in Hugging Face's own cache.

    Its `path` is the name without the owner, so that results beside it are written to the working directory.
    """
    try:
        # The small file first, so that a model of another program is refused before its weights are downloaded.
        folder = Path(snapshot_download(name, allow_patterns=[CONFIG]))
        _read_config(folder / CONFIG)
        folder = Path(snapshot_download(name, revision=folder.name, allow_patterns=[CONFIG, WEIGHTS, VOCABULARY]))
    except UserError:
        raise
    except Exception as error:  # which ones depends on the HTTP library below huggingface_hub
        raise UserError(
            f"cannot get the model {name!r} from the Hugging Face Hub: {innermost_reason(error)}; correct the name, "
            "run `hf auth login` if it is private, or give a folder that holds a copy of it"
        ) from error
    return replace(load(folder), path=Path(name.rpartition("/")[2]))


def empty_model(
    architecture: Mapping[str, Any], vocab_size: int, shapes: Mapping[str, tuple[int, ...]], path: Path
) -> Transformer:
    """A model without weights, which takes no memory whatever sizes a file states.

    Args:
        architecture: The fields of `TransformerConfig`.
        vocab_size: Number of tokens in the vocabulary.
        shapes: The shapes of the weights that will be filled in.
        path: Where all this comes from, for errors.
    """
    try:
        config = TransformerConfig(**architecture)
        sizes = (config.d_model, config.d_ff, config.num_heads, config.key_size, config.value_size)
        # Sizes that are checked here cost time to build even without memory: layers are made one by one.
        if config.num_layers > len(shapes) or max(sizes) > max(prod(shape) for shape in shapes.values()):
            raise ValueError("the architecture has sizes that the weights do not have")
        with torch.device("meta"):
            return Transformer(config, vocab_size=vocab_size, pad_id=PAD_ID)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f"{path} holds no model of lit_transformer: {innermost_reason(error)}; take another one"
        ) from error


def filled(transformer: Transformer, weights: Mapping[str, Tensor], path: Path) -> Transformer:
    """The model with its weights in float32, ready to translate."""
    try:
        transformer.load_state_dict(weights, assign=True)
    except (TypeError, RuntimeError) as error:
        raise UserError(
            f"{path} has weights of another architecture: {innermost_reason(error)}; take another one"
        ) from error
    if not all(bool(weight.isfinite().all()) for weight in transformer.parameters()):
        raise UserError(f"{path} has weights that are not finite: its training diverged; take an earlier checkpoint")
    return transformer.float().requires_grad_(False).eval()


def _read_config(path: Path) -> dict[str, Any]:
    check_regular(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise ValueError(f"it has more than {MAX_CONFIG_BYTES:,} bytes")
        config = json.loads(text)
    except OSError as error:
        raise UserError(f"cannot read {path}: {innermost_reason(error)}; copy the folder again") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is no configuration of a model: {innermost_reason(error)}; copy the folder again"
        ) from error
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type != MODEL_TYPE:
        raise UserError(f"{path} has model_type {str(model_type)[:50]!r}, not {MODEL_TYPE!r}: give another model")
    if config.get("format") != FORMAT:
        raise UserError(
            f"{path} has format {str(config.get('format'))[:50]}, this version reads {FORMAT}: "
            "take the version that wrote it"
        )
    known = {*_FIELDS, *_ARCHITECTURE}
    if wrong := sorted(known ^ config.keys()):
        missing = [name for name in wrong if name in known]
        raise UserError(
            f"{path} lacks {', '.join(missing)}: copy it again"
            if missing
            else f"{path} has fields that are not known ({', '.join(wrong)[:200]}): take the version that wrote it"
        )
    for name, kind in _FIELDS.items():
        value = config[name]
        # To Python, true is an integer.
        if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**63):
            raise UserError(f"{path}: {name} is {str(value)[:50]}, not a {kind.__name__}; copy it again")
    return config


def _check_tensors(
    shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str], transformer: Transformer, path: Path
) -> None:
    expected = {name: tuple(value.shape) for name, value in transformer.state_dict().items()}
    wrong = {
        "lacks": sorted(expected.keys() - shapes.keys()),
        "has tensors that the architecture does not have:": sorted(shapes.keys() - expected.keys()),
        "has tensors of another shape than the architecture:": [
            f"{name} {shapes[name]} for {shape}" for name, shape in expected.items() if shapes.get(name, shape) != shape
        ],
        f"has tensors of another type than {', '.join(DTYPES)}:": [
            f"{name} {dtype}" for name, dtype in dtypes.items() if dtype not in DTYPES
        ],
    }
    for problem, names in wrong.items():
        if names:
            more = f" and {len(names) - 1} more" if names[1:] else ""
            raise UserError(f"{path} {problem} {names[0][:200]}{more}; copy the folder again")


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
