"""Folders of other programs: saved random models of `transformers`, in which every size differs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
    ViTConfig,
    ViTForImageClassification,
)

from lit_transformer.checkpoints.descendants import TrainedDescendant
from lit_transformer.errors import UserError
from lit_transformer.pretrained.places import load_pretrained
from tests.helpers.oracles import TOLERANCE, randomize

VOCAB_SIZE, LONGEST = 31, 17
every_dtype = pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)


def gpt2(**settings: Any) -> Any:
    sizes = {"vocab_size": VOCAB_SIZE, "n_positions": LONGEST, "n_embd": 35, "n_layer": 2, "n_head": 5, "n_inner": 23}
    return GPT2LMHeadModel(GPT2Config(**(sizes | settings)))


def bert(**settings: Any) -> Any:
    sizes = {
        "vocab_size": VOCAB_SIZE,
        "max_position_embeddings": LONGEST,
        "hidden_size": 35,
        "num_hidden_layers": 2,
        "num_attention_heads": 5,
        "intermediate_size": 23,
        "type_vocab_size": 3,
    }
    return BertForMaskedLM(BertConfig(**(sizes | settings)))


def bart(**settings: Any) -> Any:
    one_side = {"layers": 2, "ffn_dim": 23, "attention_heads": 5}
    sides = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in one_side.items()}
    sizes = {"vocab_size": VOCAB_SIZE, "max_position_embeddings": LONGEST, "d_model": 35, **sides}
    return BartForConditionalGeneration(BartConfig(**(sizes | settings)))


def t5(**settings: Any) -> Any:
    sizes = {
        "vocab_size": VOCAB_SIZE,
        "d_model": 35,
        "d_kv": 11,
        "d_ff": 23,
        "num_layers": 2,
        "num_heads": 5,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 13,
    }
    return T5ForConditionalGeneration(T5Config(**(sizes | settings)))


def vit(**settings: Any) -> Any:
    sizes: dict[str, Any] = {
        "image_size": 15,
        "patch_size": 5,
        "num_channels": 2,
        "hidden_size": 35,
        "num_hidden_layers": 2,
        "num_attention_heads": 5,
        "intermediate_size": 23,
        "id2label": {0: "cat", 1: "dog", 2: "mouse"},
    }
    return ViTForImageClassification(ViTConfig(**(sizes | settings)))


MAKE: dict[str, Callable[..., Any]] = {"gpt2": gpt2, "bert": bert, "bart": bart, "t5": t5, "vit": vit}


def save(oracle: Any, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """Give every number of a model another value and write its folder."""
    randomize(oracle, dtype)
    oracle.save_pretrained(folder)
    return oracle


def load(folder: Path) -> Any:
    """The model in a folder."""
    trained = load_pretrained(folder)
    assert isinstance(trained, TrainedDescendant)
    return trained.model


def change_config(folder: Path, **settings: Any) -> None:
    """Write other settings into `config.json`. None removes one."""
    path = folder / "config.json"
    changed = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({name: value for name, value in changed.items() if value is not None}))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Write other weights into `model.safetensors`."""
    path = folder / "model.safetensors"
    changed = {name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}
    save_file(changed, path, metadata={"format": "pt"})


def random_tokens(rows: int = 3, length: int = 13) -> Tensor:
    """Tokens without those that may be padding or other special ones."""
    return torch.randint(3, VOCAB_SIZE, (rows, length))


def assert_equal(mine: Tensor, theirs: Tensor) -> None:
    """Equal up to the tolerance, and not only because all numbers are small."""
    assert mine.dtype == theirs.dtype
    assert theirs.std() > 0.05
    torch.testing.assert_close(mine, theirs, rtol=0.0, atol=TOLERANCE[theirs.dtype])


def refused(folder: Path) -> str:
    """The one line that says why a folder is not read."""
    with pytest.raises(UserError) as error:
        load_pretrained(folder)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)
    return str(error.value)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    """Whether two models have equal weights."""
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def unread_settings(folder: Path, model_type: str) -> set[str]:
    """The settings of `config.json` that belong to the architecture and that nobody reads."""
    from lit_transformer.pretrained.config import ForeignConfig
    from lit_transformer.pretrained.places import READERS

    config = ForeignConfig(folder / "config.json", json.loads((folder / "config.json").read_text()))
    READERS[model_type](folder, config)
    return set(json.loads((folder / "config.json").read_text())) - config.known
