"""Weights of others: in one file or several, and one line about everything that does not fit."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.helpers.foreign import MAKE, change_weights, load, refused, same_weights, save

NAME = "h.0.ln_1.weight"
WHOLE = f"transformer.{NAME}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(MAKE["gpt2"](), tmp_path)
    return tmp_path


def split(folder: Path, **files: Any) -> None:
    """Cut the weights into two files. `files` replaces the names of files in the index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index: dict[str, Any] = {}
    for number in (0, 1):
        name = f"model-{number + 1:05}-of-00002.safetensors"
        part = {each: weights[each] for each in sorted(weights)[number::2]}
        save_file(part, folder / name)
        index |= {each: files.get(f"file_{number}", name) for each in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def test_a_model_in_several_files(folder: Path) -> None:
    expected = load(folder)
    split(folder)
    assert same_weights(load(folder), expected)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "missing.safetensors", "model.bin", 7, "a\0.safetensors", ""]
)
def test_an_index_leads_to_files_beside_it_only(folder: Path, name: Any) -> None:
    split(folder, file_0=name)
    refused(folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {}}'])
def test_a_damaged_index(folder: Path, content: str) -> None:
    split(folder)
    (folder / "model.safetensors.index.json").write_text(content)
    refused(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", None])
def test_other_formats_are_not_read(folder: Path, name: str | None) -> None:
    """The line says how to convert them."""
    (folder / "model.safetensors").unlink()
    if name is not None:
        (folder / name).write_bytes(b"could run code")
    complaint = refused(folder)
    assert "model.safetensors" in complaint
    if name is not None:
        assert name in complaint
        assert "save_pretrained" in complaint


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda weights: {name: each for name, each in weights.items() if name != WHOLE}, NAME),
        (lambda weights: weights | {"score.weight": torch.ones(2, 35)}, "score.weight"),
        (lambda weights: weights | {WHOLE: torch.ones(34)}, ""),
        (lambda weights: weights | {WHOLE: torch.ones(35, dtype=torch.int64)}, "int64"),
        (lambda weights: weights | {WHOLE: torch.full((35,), torch.nan)}, ""),
        (lambda weights: weights | {WHOLE: torch.full((35,), torch.inf)}, ""),
        (lambda weights: weights | {"transformer.h.0.attn.c_attn.weight": torch.ones(3, 4, 5)}, ""),
        (lambda weights: weights | {"transformer.h.0.attn.c_attn.weight": torch.ones(105, 35)}, ""),
        (lambda weights: weights | {"transformer.h.0.attn.c_attn.weight": torch.ones(())}, ""),
        (lambda weights: weights | {WHOLE: weights[WHOLE].to(torch.float8_e4m3fn)}, "float8"),
        (lambda weights: {}, ""),
    ],
)
def test_tensors_that_do_not_fit(
    folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], named: str
) -> None:
    change_weights(folder, change)
    assert named in refused(folder)


def test_weights_of_different_types(folder: Path) -> None:
    """Only a model that is all in float64 stays in it."""
    change_weights(folder, lambda weights: weights | {WHOLE: weights[WHOLE].double()})
    assert {weight.dtype for weight in load(folder).parameters()} == {torch.float32}


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 99, b"\x08" + bytes(7) + b"[]      "])
def test_damaged_files(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    refused(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "vocab.txt", "spiece.model"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    refused(folder)
