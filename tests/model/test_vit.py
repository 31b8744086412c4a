"""The ViT equals that of `transformers`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from lit_transformer.errors import UserError
from lit_transformer.model.vit import VIT_BASE, ViT
from tests.helpers.foreign import assert_equal, every_dtype, load, save, vit
from tests.helpers.oracles import TOLERANCE

B, CHANNELS, SIZE, PATCH, CLASSES = 3, 2, 15, 5, 3
CONFIG = replace(VIT_BASE, d_model=35, d_ff=23, num_heads=5, num_layers=2, max_positions=10)


def make_vit() -> ViT:
    return ViT(CONFIG, image_size=SIZE, patch_size=PATCH, num_channels=CHANNELS, num_classes=CLASSES).eval()


def make_pair(folder: Path, dtype: torch.dtype) -> tuple[ViT, Any]:
    """The model and its oracle, with the same random numbers."""
    oracle = save(vit(), folder, dtype)
    # Its eager attention rounds to float32 in between.
    oracle.set_attn_implementation("sdpa")
    return load(folder).requires_grad_(True), oracle


def random_images(dtype: torch.dtype) -> Tensor:
    return torch.randn(B, CHANNELS, SIZE, SIZE, dtype=dtype)


@every_dtype
def test_it_equals_vit(tmp_path: Path, dtype: torch.dtype) -> None:
    model, oracle = make_pair(tmp_path, dtype)
    image_BCHW = random_images(dtype)
    assert_equal(model(image_BCHW), oracle(image_BCHW).logits)


@every_dtype
def test_gradients_of_the_loss_equal_those_of_vit(tmp_path: Path, dtype: torch.dtype) -> None:
    model, oracle = make_pair(tmp_path, dtype)
    image_BCHW, label_B = random_images(dtype), torch.tensor([2, 0, 2])
    F.cross_entropy(model(image_BCHW), label_B).backward()
    F.cross_entropy(oracle(image_BCHW).logits, label_B).backward()
    theirs = oracle.vit.embeddings
    for mine, expected in (
        (model.patches.weight, theirs.patch_embeddings.projection.weight),
        (model.class_vector, theirs.cls_token),
        (model.stack.positions.get_parameter("table.weight"), theirs.position_embeddings),
        (model.head.bias, oracle.classifier.bias),
    ):
        assert mine.grad is not None
        assert mine.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.grad, expected.grad.view_as(mine), rtol=1e-4, atol=TOLERANCE[dtype])


def test_attention_maps_equal_those_of_vit(tmp_path: Path) -> None:
    model, oracle = make_pair(tmp_path, torch.float32)
    image_BCHW = random_images(torch.float32)
    oracle.set_attn_implementation("eager")
    theirs = oracle(image_BCHW, output_attentions=True).attentions
    maps = model.attention_maps(image_BCHW)
    assert list(maps) == [0, 1]
    for layer, weights_BHLL in maps.items():
        assert weights_BHLL.shape == (B, 5, 10, 10)
        torch.testing.assert_close(weights_BHLL, theirs[layer], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("shape", [(CHANNELS, 15, 10), (CHANNELS, 20, 20), (3, 15, 15)])
def test_images_of_another_size_are_one_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"\(2, 15, 15\)"):
        make_vit()(torch.zeros(B, *shape))


@pytest.mark.parametrize(("image_size", "patch_size"), [(8, 3), (8, 0), (0, 2), (2, 8)])
def test_patches_that_do_not_fit_are_one_error(image_size: int, patch_size: int) -> None:
    with pytest.raises(UserError, match="patch_size"):
        ViT(CONFIG, image_size=image_size, patch_size=patch_size, num_channels=1, num_classes=2)


def test_the_published_settings(tmp_path: Path) -> None:
    model, _ = make_pair(tmp_path, torch.float32)
    assert model.config == replace(CONFIG, dropout=0.0)
    with torch.device("meta"):
        base = ViT(VIT_BASE, image_size=224, patch_size=16, num_channels=3, num_classes=1000)
        settings: dict[str, Any] = {"num_labels": 1000}
        published = ViTForImageClassification(ViTConfig(**settings))
    assert sum(parameter.numel() for parameter in base.parameters()) == published.num_parameters() == 86_567_656
