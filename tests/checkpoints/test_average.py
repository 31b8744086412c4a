"""Checkpoint averaging."""

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_transformer.checkpoints.average import average_checkpoints
from lit_transformer.checkpoints.format import read_checkpoint, save_checkpoint
from lit_transformer.checkpoints.names import (
    regular_checkpoints,
)
from lit_transformer.checkpoints.places import (
    load_checkpoint,
)
from lit_transformer.errors import UserError
from tests.helpers.checkpoints import same_model


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7])
def test_the_mean_of_copies_is_the_copy_to_the_bit(file: Path, content: dict[str, Any], number: int) -> None:
    mean = average_checkpoints([file] * number).transformer.state_dict()
    assert {f"transformer.{name}" for name in mean} == content["state_dict"].keys()
    for name, value in mean.items():
        former = content["state_dict"][f"transformer.{name}"]
        assert torch.equal(value.view(torch.int32), former.view(torch.int32)), name


def test_the_mean_is_that_of_float64(tiny_run: Path) -> None:
    paths = regular_checkpoints(tiny_run / "checkpoints")
    assert len(paths) == 3
    mean = average_checkpoints(paths)
    weights = [read_checkpoint(path)["state_dict"] for path in paths]
    for name, value in mean.transformer.state_dict().items():
        expected = torch.stack([each[f"transformer.{name}"].double() for each in weights]).mean(dim=0)
        assert torch.equal(value, expected.float()), name
        assert not torch.equal(value, weights[-1][f"transformer.{name}"])
    last = load_checkpoint(paths[-1])
    assert mean.tokenizer.model_bytes == last.tokenizer.model_bytes
    assert (mean.source, mean.target, mean.step) == (last.source, last.target, last.step)
    # The embedding is tied three ways.
    assert [name for name, value in mean.transformer.state_dict().items() if value.shape[0] == 131] == [
        "embedding.weight"
    ]


def test_an_average_of_former_versions(tmp_path: Path, file: Path, content: dict[str, Any]) -> None:
    """They were checkpoints without a training state."""
    path = tmp_path / "average-1.ckpt"
    save_checkpoint({name: content[name] for name in ("state_dict", "lit_transformer")}, path)
    assert same_model(load_checkpoint(path), load_checkpoint(file))


def test_only_checkpoints_of_one_run_are_averaged(tmp_path: Path, file: Path, content: dict[str, Any]) -> None:
    other = tmp_path / "other.ckpt"

    def check(message: str) -> None:
        save_checkpoint(content, other)
        with pytest.raises(UserError, match=message) as error:
            average_checkpoints([file, other])
        assert str(other) in str(error.value)
        assert str(file) in str(error.value)
        content.update(read_checkpoint(file))

    content["lit_transformer"]["tokenizer"] += b"\x00"
    check("tokenizer")
    content["lit_transformer"]["source_tokenizer"] = content["lit_transformer"]["tokenizer"]
    check("source_tokenizer")
    content["lit_transformer"]["transformer"]["num_heads"] = 4
    check("transformer")
    content["lit_transformer"]["target"] = "fr"
    check("target")
    # Dropout may change on the way; it is no part of what the weights mean.
