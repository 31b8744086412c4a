"""A ViT that `transformers` saved has the same logits here."""

from pathlib import Path

import pytest
import torch
from transformers import ViTConfig

from lit_transformer.checkpoints.descendants import TrainedDescendant
from lit_transformer.decoding.self_attention import record_image_attention
from lit_transformer.errors import UserError
from lit_transformer.pretrained.places import load_pretrained
from tests.helpers.foreign import (
    assert_equal,
    change_config,
    change_weights,
    every_dtype,
    load,
    refused,
    same_weights,
    save,
    unread_settings,
    vit,
)


def random_images(dtype: torch.dtype) -> torch.Tensor:
    return torch.randn(3, 2, 15, 15, dtype=dtype)


@every_dtype
@pytest.mark.parametrize("settings", [{}, {"hidden_act": "gelu_new", "layer_norm_eps": 0.3}])
def test_logits_are_equal(tmp_path: Path, dtype: torch.dtype, settings: dict[str, object]) -> None:
    oracle = save(vit(**settings), tmp_path, dtype)
    oracle.set_attn_implementation("sdpa")  # the other one computes softmax in float32
    image_BCHW = random_images(dtype)
    assert_equal(load(tmp_path)(image_BCHW), oracle(image_BCHW).logits)


def test_classes_and_surplus_names(tmp_path: Path) -> None:
    """Classes without names have their numbers. A pooler is not used by the classifier."""
    save(vit(id2label={0: "cat", 1: "dog", 2: "mouse"}), tmp_path)
    trained = load_pretrained(tmp_path)
    assert isinstance(trained, TrainedDescendant)
    assert (trained.name, trained.tokenizer, trained.classes) == ("vit", None, ("cat", "dog", "mouse"))
    change_weights(tmp_path, lambda weights: weights | {"vit.pooler.dense.weight": torch.ones(35, 35)})
    assert same_weights(load(tmp_path), trained.model)
    change_config(tmp_path, id2label=None)
    unnamed = load_pretrained(tmp_path)
    assert isinstance(unnamed, TrainedDescendant)
    assert unnamed.classes == ("0", "1", "2")


def test_attention_is_named_by_patches(tmp_path: Path) -> None:
    oracle = save(vit(), tmp_path)
    trained = load_pretrained(tmp_path)
    assert isinstance(trained, TrainedDescendant)
    image_BCHW = random_images(torch.float32)
    theirs = oracle(image_BCHW, output_attentions=True).attentions
    for row, mine in enumerate(record_image_attention(trained, image_BCHW)):
        assert mine.source == ["class", "1,1", "1,2", "1,3", "2,1", "2,2", "2,3", "3,1", "3,2", "3,3"]
        assert (mine.target_input, mine.decoder, mine.cross) == ([], {}, {})
        for layer, weights in mine.encoder.items():
            torch.testing.assert_close(torch.from_numpy(weights), theirs[layer][row].detach(), rtol=0.0, atol=1e-5)
    with pytest.raises(UserError):
        record_image_attention(trained, image_BCHW[:, :1])


@pytest.mark.parametrize(
    ("name", "value"),
    [("qkv_bias", False), ("image_size", [15, 15]), ("patch_size", 4), ("num_channels", 3), ("id2label", ["cat"])],
)
def test_other_settings_are_named(tmp_path: Path, name: str, value: object) -> None:
    save(vit(), tmp_path)
    change_config(tmp_path, **{name: value})
    refused(tmp_path)


def test_every_setting_is_read_or_known_to_change_nothing(tmp_path: Path) -> None:
    save(vit(), tmp_path)
    about_training = {"attention_probs_dropout_prob", "initializer_range"}
    about_other_heads = {"encoder_stride", "pooler_act", "pooler_output_size", "label2id"}
    about_the_file = {"architectures", "dtype", "transformers_version", "use_cache", "model_type"}
    assert unread_settings(tmp_path, "vit") <= about_training | about_other_heads | about_the_file
    assert "qkv_bias" in ViTConfig().to_dict()
