"""A GPT-2 that `transformers` saved has the same logits here."""

from pathlib import Path

import pytest
import torch
from transformers import GPT2Model

from tests.helpers.foreign import (
    assert_equal,
    change_config,
    change_weights,
    every_dtype,
    gpt2,
    load,
    random_tokens,
    refused,
    same_weights,
    save,
    unread_settings,
)


@every_dtype
@pytest.mark.parametrize(
    "settings",
    [{}, {"n_inner": None, "activation_function": "relu"}, {"tie_word_embeddings": False, "layer_norm_epsilon": 0.3}],
)
def test_logits_are_equal(tmp_path: Path, dtype: torch.dtype, settings: dict[str, object]) -> None:
    oracle = save(gpt2(**settings), tmp_path, dtype)
    token_BL = random_tokens()
    assert_equal(load(tmp_path)(token_BL), oracle(token_BL).logits)


def test_names_with_and_without_a_prefix(tmp_path: Path) -> None:
    """The published files have the names of `GPT2Model`, and the causal masks among the weights."""
    oracle = save(gpt2(), tmp_path / "head")
    bare = GPT2Model(oracle.config)
    bare.load_state_dict(oracle.transformer.state_dict())
    bare.save_pretrained(tmp_path / "bare")
    masks = {"h.0.attn.bias": torch.ones(1, 1, 17, 17).tril(), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    change_weights(tmp_path / "bare", lambda weights: weights | masks)
    change_weights(
        tmp_path / "head", lambda weights: weights | {"lm_head.weight": oracle.lm_head.weight.detach().clone()}
    )
    assert same_weights(load(tmp_path / "bare"), load(tmp_path / "head"))


def test_half_precision_is_read_in_float32(tmp_path: Path) -> None:
    save(gpt2(), tmp_path)
    before = load(tmp_path).embedding.weight
    change_weights(tmp_path, lambda weights: {name: tensor.bfloat16() for name, tensor in weights.items()})
    assert torch.equal(load(tmp_path).embedding.weight, before.bfloat16().float())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
        ("add_cross_attention", True),
        ("activation_function", "quick_gelu"),
        ("n_head", 6),
        ("n_layer", -1),
        ("n_layer", 10**9),
        ("n_embd", "35"),
        ("layer_norm_epsilon", True),
        ("vocab_size", 10**9),
    ],
)
def test_other_settings_are_named(tmp_path: Path, name: str, value: object) -> None:
    save(gpt2(), tmp_path)
    change_config(tmp_path, **{name: value})
    refused(tmp_path)


def test_every_setting_is_read_or_known_to_change_nothing(tmp_path: Path) -> None:
    save(gpt2(), tmp_path)
    about_training = {"attn_pdrop", "embd_pdrop", "initializer_range"}
    about_other_heads = {name for name in gpt2().config.to_dict() if name.startswith("summary_")}
    about_the_file = {"architectures", "dtype", "transformers_version", "use_cache"}
    same_numbers = {"reorder_and_upcast_attn"}
    # `model_type` chose the reader.
    known = about_training | about_other_heads | about_the_file | same_numbers | {"model_type"}
    assert unread_settings(tmp_path, "gpt2") <= known
