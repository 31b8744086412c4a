"""A `Transformer` with T5's settings equals the T5 of `transformers`, and its steps equal its forward pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import T5Config, T5ForConditionalGeneration
from transformers.models.t5.modeling_t5 import T5LayerNorm

from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.t5 import T5_1_1_SMALL, T5_SMALL
from lit_transformer.model.transformer import Transformer
from tests.helpers.foreign import assert_equal, every_dtype, load, random_tokens, save, t5
from tests.helpers.oracles import TOLERANCE

B, PAD = 3, 0
GATED: dict[str, Any] = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
every_version = pytest.mark.parametrize("settings", [{}, GATED], ids=["1.0", "1.1"])
every_length = pytest.mark.parametrize(
    ("source_length", "target_length", "buckets"),
    [
        (23, 19, {}),
        (3, 37, {}),
        (151, 139, {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}),
    ],
)
"""Longer than the distance from which all share a bucket, on either side, and with the published buckets."""


@pytest.fixture(autouse=True)
def _exact_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """`transformers` computes the variances of a T5 in float32, whatever the type of the model."""

    def forward(norm: Any, states: Tensor) -> Tensor:
        return norm.weight * states * (states.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()

    monkeypatch.setattr(T5LayerNorm, "forward", forward)


def random_source(length: int) -> Tensor:
    lengths = torch.tensor([max(1, length // 3), length, length // 2 + 1])
    return torch.where(torch.arange(length) < lengths[:, None], random_tokens(B, length), PAD)


@every_dtype
@every_version
@every_length
def test_it_equals_t5_at_all_distances(
    tmp_path: Path,
    dtype: torch.dtype,
    settings: dict[str, Any],
    source_length: int,
    target_length: int,
    buckets: dict[str, Any],
) -> None:
    oracle = save(t5(**settings, **buckets), tmp_path, dtype)
    source_BS, target_BT = random_source(source_length), random_tokens(B, target_length)
    theirs = oracle(source_BS, attention_mask=source_BS != PAD, decoder_input_ids=target_BT).logits
    assert_equal(load(tmp_path)(source_BS, target_BT), theirs)


@every_dtype
@every_version
def test_steps_equal_the_forward_pass_of_t5(tmp_path: Path, dtype: torch.dtype, settings: dict[str, Any]) -> None:
    """Each step finds its distances to all earlier tokens, also those that are further away than the last bucket."""
    oracle = save(t5(**settings), tmp_path, dtype)
    transformer, source_BS, target_BT = load(tmp_path), random_source(11), random_tokens(B, 29)
    expected = oracle(source_BS, attention_mask=source_BS != PAD, decoder_input_ids=target_BT).logits
    state = transformer.start(transformer.encode(source_BS))
    for place in range(29):
        logits_BV, state = transformer.step(target_BT[:, place], state)
        assert_equal(logits_BV, expected[:, place])


@every_dtype
@every_version
def test_gradients_of_the_loss_equal_those_of_t5(tmp_path: Path, dtype: torch.dtype, settings: dict[str, Any]) -> None:
    """That of W^Q, too, which is sqrt(d_k) times theirs: its gradient is theirs divided by it."""
    oracle = save(t5(**settings), tmp_path, dtype)
    transformer, source_BS, target_BT = load(tmp_path).requires_grad_(True), random_source(23), random_tokens(B, 19)
    theirs_BTV = oracle(source_BS, attention_mask=source_BS != PAD, decoder_input_ids=target_BT).logits
    for logits in (transformer(source_BS, target_BT), theirs_BTV):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), target_BT[:, 1:].flatten()).backward()
    encoder, decoder = oracle.encoder.block[0].layer, oracle.decoder.block[0].layer
    inner = "wi_0" if settings else "wi"
    layer = transformer.encoder.layers[0]
    sizes = layer.self_attention.sizes
    for mine, expected, factor in (
        (transformer.embedding.weight.grad, oracle.shared.weight, 1.0),
        (transformer.encoder.positions.table.weight.grad, encoder[0].SelfAttention.relative_attention_bias.weight, 1.0),
        (transformer.decoder.positions.table.weight.grad, decoder[0].SelfAttention.relative_attention_bias.weight, 1.0),
        (layer.self_attention.query_key_value.weight.grad[: sizes[0]], encoder[0].SelfAttention.q.weight, 11**-0.5),
        (layer.feed_forward.inner.weight.grad[:23], encoder[1].DenseReluDense.get_submodule(inner).weight, 1.0),
    ):
        gradient = expected.grad * factor
        assert gradient.abs().max() > 1e-3
        torch.testing.assert_close(mine, gradient, rtol=1e-4, atol=TOLERANCE[dtype])


@pytest.mark.parametrize(
    ("config", "their_settings", "num_parameters"),
    [
        (T5_SMALL, {}, 60_506_624),
        (T5_1_1_SMALL, {"d_ff": 1024, "num_layers": 8, "num_heads": 6, **GATED}, 76_961_152),
    ],
    ids=["1.0", "1.1"],
)
def test_the_published_settings(
    tmp_path: Path, config: TransformerConfig, their_settings: dict[str, Any], num_parameters: int
) -> None:
    """`transformers` ties the output of a new model of 1.1, and unties it when it reads the published one."""
    sizes = {"relative_attention_num_buckets": 32, "relative_attention_max_distance": 128}
    save(t5(**{name: their_settings[name] for name in GATED if name in their_settings}, **sizes), tmp_path)
    mine: dict[str, Any] = {
        "d_model": 35,
        "d_ff": 23,
        "num_heads": 5,
        "num_layers": 2,
        "d_k": 11,
        "d_v": 11,
        "tied_output": True,
    }
    assert load(tmp_path).config == replace(config, **mine)
    with torch.device("meta"):
        ours = Transformer(config, vocab_size=32128, pad_id=PAD)
        published = T5ForConditionalGeneration(T5Config(**their_settings))
        if not config.tied_output:
            published.lm_head.weight = nn.Parameter(torch.empty(32128, 512))
    total = sum(parameter.numel() for parameter in ours.parameters())
    assert total == published.num_parameters() == num_parameters
