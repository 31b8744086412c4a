"""A T5 that `transformers` saved has the same logits here, in version 1.0 and 1.1."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.t5.modeling_t5 import T5LayerNorm

from tests.helpers.foreign import (
    assert_equal,
    change_config,
    change_weights,
    every_dtype,
    load,
    random_tokens,
    refused,
    same_weights,
    save,
    t5,
    unread_settings,
)

GATED = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}


@pytest.fixture(autouse=True)
def _exact_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """`transformers` computes the variances of a T5 in float32, whatever the type of the model."""

    def forward(norm: Any, states: torch.Tensor) -> torch.Tensor:
        return norm.weight * states * (states.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()

    monkeypatch.setattr(T5LayerNorm, "forward", forward)


def check(folder: Path, oracle: Any) -> None:
    source_BS, target_BT = random_tokens(3, 19), random_tokens(3, 23)
    source_BS[0, 5:] = 0
    theirs = oracle(source_BS, attention_mask=source_BS != 0, decoder_input_ids=target_BT).logits
    assert_equal(load(folder)(source_BS, target_BT), theirs)


@every_dtype
@pytest.mark.parametrize("settings", [{}, GATED, {"feed_forward_proj": "gated-silu"}, {"feed_forward_proj": "gelu"}])
def test_logits_are_equal(tmp_path: Path, dtype: torch.dtype, settings: dict[str, object]) -> None:
    """Also under padding."""
    check(tmp_path, save(t5(**settings), tmp_path, dtype))


@every_dtype
def test_version_1_1_with_an_output_of_its_own(tmp_path: Path, dtype: torch.dtype) -> None:
    """As it was published: with an output of its own, and a setting that says so."""
    oracle = save(t5(**GATED), tmp_path, dtype)
    oracle.lm_head.weight = nn.Parameter(0.2 * torch.randn(31, 35, dtype=dtype))
    change_weights(tmp_path, lambda weights: weights | {"lm_head.weight": oracle.lm_head.weight.detach()})
    change_config(tmp_path, tie_word_embeddings=False, scale_decoder_outputs=None)
    check(tmp_path, oracle)


def test_surplus_names(tmp_path: Path) -> None:
    """The published files store the embedding several times, and a table that nothing uses."""
    save(t5(), tmp_path)
    expected = load(tmp_path)
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"

    def as_published(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        copies = {f"{side}.embed_tokens.weight": weights["shared.weight"].clone() for side in ("encoder", "decoder")}
        return weights | copies | {unused: torch.ones(8, 5)}

    change_weights(tmp_path, as_published)
    assert same_weights(load(tmp_path), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_decoder_layers", 3),
        ("feed_forward_proj", "gated-tanh"),
        ("dense_act_fn", "silu"),
        ("is_gated_act", True),
        ("is_encoder_decoder", False),
        ("relative_attention_num_buckets", 7),
        ("d_kv", 12),
    ],
)
def test_other_settings_are_named(tmp_path: Path, name: str, value: object) -> None:
    save(t5(), tmp_path)
    change_config(tmp_path, **{name: value})
    refused(tmp_path)


def test_every_setting_is_read_or_known_to_change_nothing(tmp_path: Path) -> None:
    save(t5(), tmp_path)
    about_training = {"initializer_factor", "classifier_dropout"}
    about_the_file = {"architectures", "dtype", "transformers_version", "use_cache", "model_type"}
    assert unread_settings(tmp_path, "t5") <= about_training | about_the_file
