"""The ViT equals that of `transformers`."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import ViTConfig, ViTForImageClassification

from lit_transformer.errors import UserError
from lit_transformer.model.vit import VIT_BASE, ViT
from tests.helpers.foreign import assert_equal, every_dtype
from tests.helpers.oracles import TOLERANCE, load, randomize

B, CHANNELS, SIZE, PATCH, CLASSES = 3, 2, 15, 5, 7
CONFIG = replace(VIT_BASE, d_model=33, d_ff=23, num_heads=3, num_layers=2, dropout=0.0)


SIZES: dict[str, Any] = {
    "hidden_size": 33,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 23,
    "image_size": SIZE,
    "patch_size": PATCH,
    "num_channels": CHANNELS,
    "num_labels": CLASSES,
}


def make_vit() -> ViT:
    return ViT(CONFIG, image_size=SIZE, patch_size=PATCH, num_channels=CHANNELS, num_classes=CLASSES).eval()


def make_pair(dtype: torch.dtype) -> tuple[ViT, Any]:
    """The model and its oracle, with the same random numbers."""
    oracle: Any = ViTForImageClassification(ViTConfig(**SIZES))
    randomize(oracle, dtype)
    # Its eager attention rounds to float32 in between.
    oracle.set_attn_implementation("sdpa")
    vit = make_vit().to(dtype)
    load(vit, vit_weights(oracle))
    return vit, oracle


def random_images(dtype: torch.dtype) -> Tensor:
    return torch.randn(B, CHANNELS, SIZE, SIZE, dtype=dtype)


def vit_weights(oracle: Any) -> dict[str, Tensor]:
    theirs = oracle.state_dict()
    ours = {
        "class_vector": theirs["vit.embeddings.cls_token"].flatten(),
        "stack.positions.table.weight": theirs["vit.embeddings.position_embeddings"][0],
    }
    for kind in ("weight", "bias"):
        for name, other in (
            ("patches", "vit.embeddings.patch_embeddings.projection"),
            ("stack.norm", "vit.layernorm"),
            ("head", "classifier"),
        ):
            ours[f"{name}.{kind}"] = theirs[f"{other}.{kind}"]
        for layer in range(oracle.config.num_hidden_layers):
            other, name = f"vit.layers.{layer}", f"stack.layers.{layer}"
            ours[f"{name}.self_attention.query_key_value.{kind}"] = torch.cat(
                [theirs[f"{other}.attention.{part}_proj.{kind}"] for part in "qkv"]
            )
            ours[f"{name}.self_attention.output.{kind}"] = theirs[f"{other}.attention.o_proj.{kind}"]
            ours[f"{name}.self_attention_norm.norm.{kind}"] = theirs[f"{other}.layernorm_before.{kind}"]
            ours[f"{name}.feed_forward_norm.norm.{kind}"] = theirs[f"{other}.layernorm_after.{kind}"]
            ours[f"{name}.feed_forward.inner.{kind}"] = theirs[f"{other}.mlp.fc1.{kind}"]
            ours[f"{name}.feed_forward.outer.{kind}"] = theirs[f"{other}.mlp.fc2.{kind}"]
    return ours


@every_dtype
def test_it_equals_vit(dtype: torch.dtype) -> None:
    vit, oracle = make_pair(dtype)
    image_BCHW = random_images(dtype)
    assert_equal(vit(image_BCHW), oracle(image_BCHW).logits)


@every_dtype
def test_gradients_of_the_loss_equal_those_of_vit(dtype: torch.dtype) -> None:
    vit, oracle = make_pair(dtype)
    image_BCHW, label_B = random_images(dtype), torch.tensor([6, 0, 2])
    F.cross_entropy(vit(image_BCHW), label_B).backward()
    F.cross_entropy(oracle(image_BCHW).logits, label_B).backward()
    theirs = oracle.vit.embeddings
    for mine, expected in (
        (vit.patches.weight, theirs.patch_embeddings.projection.weight),
        (vit.class_vector, theirs.cls_token),
        (vit.stack.positions.get_parameter("table.weight"), theirs.position_embeddings),
        (vit.head.bias, oracle.classifier.bias),
    ):
        assert mine.grad is not None
        assert mine.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.grad, expected.grad.view_as(mine), rtol=1e-4, atol=TOLERANCE[dtype])


def test_attention_maps_equal_those_of_vit() -> None:
    vit, oracle = make_pair(torch.float32)
    image_BCHW = random_images(torch.float32)
    oracle.set_attn_implementation("eager")
    theirs = oracle(image_BCHW, output_attentions=True).attentions
    maps = vit.attention_maps(image_BCHW)
    assert list(maps) == [0, 1]
    for layer, weights_BHLL in maps.items():
        assert weights_BHLL.shape == (B, 3, 10, 10)
        torch.testing.assert_close(weights_BHLL, theirs[layer], rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("shape", [(CHANNELS, 15, 10), (CHANNELS, 20, 20), (3, 15, 15)])
def test_images_of_another_size_are_one_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"\(2, 15, 15\)"):
        make_vit()(torch.zeros(B, *shape))


@pytest.mark.parametrize(("image_size", "patch_size"), [(8, 3), (8, 0), (0, 2), (2, 8)])
def test_patches_that_do_not_fit_are_one_error(image_size: int, patch_size: int) -> None:
    with pytest.raises(UserError, match="patch_size"):
        ViT(CONFIG, image_size=image_size, patch_size=patch_size, num_channels=1, num_classes=2)


def test_the_published_size() -> None:
    with torch.device("meta"):
        vit = ViT(VIT_BASE, image_size=224, patch_size=16, num_channels=3, num_classes=1000)
        settings: dict[str, Any] = {"num_labels": 1000}
        published = ViTForImageClassification(ViTConfig(**settings))
    assert sum(parameter.numel() for parameter in vit.parameters()) == published.num_parameters() == 86_567_656
