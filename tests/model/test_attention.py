import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.model.attention import (
    CrossAttention,
    SelfAttention,
    WeightRecorder,
    attend,
    causal_bias,
    padding_bias,
)
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.positions import Positions

B, L, M, H, K = 3, 5, 7, 2, 11
D = H * K


def allowed(name: str) -> Tensor | None:
    """Masks that broadcast over batch, heads and queries in the ways that the model uses."""
    lengths_B1 = torch.tensor([[M], [2], [5]])
    mask_BM = torch.arange(M) < lengths_B1
    causal_LM = torch.ones(L, M, dtype=torch.bool).tril(M - L)
    return {"none": None, "padding": mask_BM[:, None, None], "causal": causal_LM}[name]


@pytest.mark.parametrize("mask", ["none", "padding", "causal"])
def test_attention_on_the_cpu_and_with_weights_equals_the_fused_kernel(mask: str) -> None:
    query_BHLK = torch.randn(B, H, L, K, dtype=torch.float64, requires_grad=True)
    key_BHMK = torch.randn(B, H, M, K, dtype=torch.float64, requires_grad=True)
    value_BHMK = torch.randn(B, H, M, 13, dtype=torch.float64, requires_grad=True)
    inputs = (query_BHLK, key_BHMK, value_BHMK)
    may = allowed(mask)
    # The model makes its biases in float32, whatever it computes in.
    bias = None if may is None else torch.zeros(may.shape).masked_fill(~may, float("-inf"))
    expected = F.scaled_dot_product_attention(*inputs, attn_mask=may)
    upstream = torch.randn_like(expected)
    expected_grads = torch.autograd.grad(expected, inputs, upstream)
    for path in (attend, WeightRecorder()):
        output = path(*inputs, bias)
        torch.testing.assert_close(output, expected, rtol=0.0, atol=1e-12)
        for grad, expected_grad in zip(torch.autograd.grad(output, inputs, upstream), expected_grads, strict=True):
            torch.testing.assert_close(grad, expected_grad, rtol=0.0, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("mask", ["none", "padding", "causal"])
def test_attention_on_a_gpu_equals_that_on_the_cpu(mask: str) -> None:
    query_BHLK, key_BHMK, value_BHMK = torch.randn(B, H, L, K), torch.randn(B, H, M, K), torch.randn(B, H, M, K)
    may = allowed(mask)
    bias = None if may is None else torch.zeros(may.shape).masked_fill(~may, float("-inf"))
    on_gpu = [None if part is None else part.cuda() for part in (query_BHLK, key_BHMK, value_BHMK, bias)]
    expected = attend(query_BHLK, key_BHMK, value_BHMK, bias)
    torch.testing.assert_close(attend(*on_gpu).cpu(), expected, rtol=0.0, atol=1e-4)  # type: ignore[arg-type]


def test_biases_allow_what_lies_before_and_is_no_padding() -> None:
    infinity = float("inf")
    expected = [[0.0, -infinity, -infinity], [0.0, 0.0, -infinity], [0.0, 0.0, 0.0]]
    assert causal_bias(3, torch.device("cpu")).tolist() == expected
    mask_BM = torch.tensor([[True, True, False], [True, False, False]])
    assert padding_bias(mask_BM).tolist() == [[[[0.0, 0.0, -infinity]]], [[[0.0, -infinity, -infinity]]]]


def oracle(weight: Tensor, output: Tensor) -> nn.MultiheadAttention:
    attention = nn.MultiheadAttention(D, H, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        attention.in_proj_weight.copy_(weight)
        attention.out_proj.weight.copy_(output)
    return attention


def test_self_attention_and_its_weights_equal_multihead_attention() -> None:
    config = TransformerConfig(d_model=D, num_heads=H)
    ours = SelfAttention(config, Positions()).double()
    theirs = oracle(ours.query_key_value.weight, ours.output.weight)
    states_BLD = torch.randn(B, M, D, dtype=torch.float64)
    mask_BM = allowed("padding")[:, 0, 0]  # type: ignore[index]
    recorder = WeightRecorder()
    output_BLD = ours(states_BLD, padding_bias(mask_BM), recorder)
    expected_BLD, expected_weights = theirs(
        states_BLD, states_BLD, states_BLD, key_padding_mask=~mask_BM, average_attn_weights=False
    )
    torch.testing.assert_close(output_BLD, expected_BLD, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(recorder.weights, {0: expected_weights}, rtol=0.0, atol=1e-12)


def test_cross_attention_equals_multihead_attention() -> None:
    config = TransformerConfig(d_model=D, num_heads=H)
    ours = CrossAttention(config).double()
    theirs = oracle(torch.cat([ours.query.weight, ours.key_value.weight]), ours.output.weight)
    states_BLD, memory_BMD = torch.randn(B, L, D).double(), torch.randn(B, M, D).double()
    mask_BM = allowed("padding")[:, 0, 0]  # type: ignore[index]
    output_BLD = ours(states_BLD, ours.keys_values(memory_BMD), padding_bias(mask_BM), attend)
    expected_BLD, _ = theirs(states_BLD, memory_BMD, memory_BMD, key_padding_mask=~mask_BM)
    torch.testing.assert_close(output_BLD, expected_BLD, rtol=0.0, atol=1e-12)


def test_query_and_value_heads_have_widths_of_their_own() -> None:
    key_size, value_size = 5, 13
    ours = SelfAttention(TransformerConfig(d_model=D, num_heads=H, d_k=key_size, d_v=value_size), Positions()).double()
    states_LD = torch.randn(L, D, dtype=torch.float64)
    query, key, value = ours.query_key_value.weight.split([H * key_size, H * key_size, H * value_size])
    heads = []
    for head in range(H):
        keys, values = slice(head * key_size, (head + 1) * key_size), slice(head * value_size, (head + 1) * value_size)
        score_LM = (states_LD @ query[keys].T) @ (states_LD @ key[keys].T).T / math.sqrt(key_size)
        heads.append(score_LM.softmax(dim=-1) @ (states_LD @ value[values].T))
    expected_LD = torch.cat(heads, dim=-1) @ ours.output.weight.T
    torch.testing.assert_close(ours(states_LD[None], None, attend)[0], expected_LD, rtol=0.0, atol=1e-12)


def test_every_projection_is_initialised_by_its_own_fans() -> None:
    """Xavier's bound is that of one projection, not of the matrix that several share."""
    config = TransformerConfig(d_model=30, num_heads=2, d_k=7, d_v=53)
    attention, cross = SelfAttention(config, Positions()), CrossAttention(config)
    narrow, wide = math.sqrt(6 / (30 + 14)), math.sqrt(6 / (30 + 106))
    parts = [
        *zip(attention.query_key_value.weight.split([14, 14, 106]), (narrow, narrow, wide), strict=True),
        (cross.query.weight, narrow),
        *zip(cross.key_value.weight.split([14, 106]), (narrow, wide), strict=True),
        (attention.output.weight, wide),
        (cross.output.weight, wide),
    ]
    for weight, bound in parts:
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.02)
