import dataclasses
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from lit_transformer.benchmarks.torch_peer import copy_layer
from lit_transformer.model.attention import Source
from lit_transformer.model.config import Norm, TransformerConfig
from lit_transformer.model.layers import AddNorm, FeedForward, Layer
from lit_transformer.model.masks import Mask

pytestmark = pytest.mark.usefixtures("device")

B, S, T, D, F, H = 3, 7, 5, 22, 13, 2
CONFIG = TransformerConfig(d_model=D, d_ff=F, num_heads=H, dropout=0.0)
every_norm = pytest.mark.parametrize("norm", get_args(Norm))


def randomize(module: nn.Module) -> None:
    """Every parameter random, so that none can stand for another unnoticed."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


def normalized(states_BLD: Tensor) -> Tensor:
    mean, variance = states_BLD.mean(-1, keepdim=True), states_BLD.var(-1, correction=0, keepdim=True)
    return (states_BLD - mean) / (variance + 1e-5).sqrt()


@every_norm
def test_add_norm_is_the_formula_of_the_paper(norm: Norm) -> None:
    """LayerNorm(x + Sublayer(x)) of section 3.1; for pre-norm x + Sublayer(LayerNorm(x))."""
    add_norm = AddNorm(dataclasses.replace(CONFIG, norm=norm)).double()
    x = torch.randn(B, T, D).double()
    expected = normalized(x + 3.0 * x.sin()) if norm == "post" else x + 3.0 * normalized(x).sin()
    torch.testing.assert_close(add_norm(x, lambda x: 3.0 * x.sin()), expected, rtol=0.0, atol=1e-12)


@every_norm
def test_dropout_leaves_the_residual_alone(norm: Norm) -> None:
    """It is applied to the output of the sub-layer (section 5.4)."""
    add_norm = AddNorm(dataclasses.replace(CONFIG, norm=norm, dropout=0.5)).double().train()
    x = torch.randn(B, T, D).double()
    expected = normalized(x) if norm == "post" else x
    torch.testing.assert_close(add_norm(x, torch.zeros_like), expected, rtol=0.0, atol=1e-12)


def test_dropout_is_applied_before_the_sum() -> None:
    """Where the output of the sub-layer is dropped, its input stays (section 5.4)."""
    add_norm = AddNorm(dataclasses.replace(CONFIG, norm="pre", dropout=0.5)).train()
    x = torch.full((B, T, D), 7.0)
    added = add_norm(x, lambda _: torch.ones(B, T, D))
    assert added.unique().tolist() == [7.0, 9.0]


def test_feed_forward_is_equation_2() -> None:
    feed_forward = FeedForward(CONFIG).double()
    randomize(feed_forward)
    w1, b1, w2, b2 = feed_forward.parameters()
    x = torch.randn(B, T, D).double()
    torch.testing.assert_close(feed_forward(x), torch.clamp(x @ w1.T + b1, min=0.0) @ w2.T + b2, rtol=0.0, atol=1e-12)


@every_norm
def test_a_layer_without_a_source_equals_pytorch_s_encoder_layer(norm: Norm) -> None:
    ours = Layer(dataclasses.replace(CONFIG, norm=norm), attends_to_source=False).double()
    randomize(ours)
    theirs = nn.TransformerEncoderLayer(D, H, F, 0.0, batch_first=True, norm_first=norm == "pre", dtype=torch.float64)
    copy_layer(theirs, ours)
    states_BSD, keys_BS = torch.randn(B, S, D).double(), torch.arange(S) < torch.tensor([[S], [2], [5]])
    expected_BSD = theirs.train()(states_BSD, src_key_padding_mask=~keys_BS)
    torch.testing.assert_close(ours(states_BSD, Mask(keys_BM=keys_BS)), expected_BSD, rtol=0.0, atol=1e-11)


@every_norm
def test_a_layer_with_a_source_equals_pytorch_s_decoder_layer(norm: Norm) -> None:
    ours = Layer(dataclasses.replace(CONFIG, norm=norm), attends_to_source=True).double()
    randomize(ours)
    theirs = nn.TransformerDecoderLayer(D, H, F, 0.0, batch_first=True, norm_first=norm == "pre", dtype=torch.float64)
    copy_layer(theirs, ours)
    states_BTD, memory_BSD = torch.randn(B, T, D).double(), torch.randn(B, S, D).double()
    keys_BS = torch.arange(S) < torch.tensor([[S], [2], [5]])
    expected_BTD = theirs(
        states_BTD,
        memory_BSD,
        tgt_mask=torch.ones(T, T, dtype=torch.bool).triu(1),
        memory_key_padding_mask=~keys_BS,
    )
    keys_values = ours.cross_attention.keys_values(memory_BSD)
    source = Source({ours.cross_attention: keys_values}, Mask(keys_BM=keys_BS))
    torch.testing.assert_close(ours(states_BTD, Mask(causal=True), source=source), expected_BTD, rtol=0.0, atol=1e-11)
