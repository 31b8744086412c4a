import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lit_transformer.model.attention import (
    Cache,
    CrossAttention,
    SelfAttention,
    Source,
    attend,
    attention_weights,
    fused_attention,
    record_weights,
)
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.masks import Mask

pytestmark = pytest.mark.usefixtures("device")

B, L, M, H, K = 3, 5, 7, 2, 11
D = H * K


def keys() -> Tensor:
    """True where there is a key, B x M."""
    return torch.arange(M) < torch.tensor([[M], [2], [5]])


def masks() -> dict[str, tuple[Mask, Tensor | None]]:
    """Masks, and the same as the booleans that PyTorch takes."""
    keys_BM, causal_LM = keys(), torch.ones(L, M, dtype=torch.bool).tril(M - L)
    own_LM = torch.eye(M, dtype=torch.bool)[-L:]
    segments_BM = torch.tensor([0, 0, 0, 1, 1, 1, 1]).expand(B, M)
    segments_LM = torch.tensor([[1, 1, 1, 0, 0, 0, 0], *[[0, 0, 0, 1, 1, 1, 1]] * 4], dtype=torch.bool)
    return {
        "none": (Mask(), None),
        "padding": (Mask(keys_BM=keys_BM), keys_BM[:, None, None]),
        "causal": (Mask(causal=True), causal_LM),
        "causal and padding": (Mask(causal=True, keys_BM=keys_BM), causal_LM & (keys_BM[:, None, None] | own_LM)),
        "window": (Mask(causal=True, window=3), causal_LM.triu(M - L - 2)),
        "packed": (Mask(segments_BM=segments_BM), segments_LM),
    }


def explicit_attention(query_BHLK: Tensor, key_BHMK: Tensor, value_BHMK: Tensor, mask: Mask) -> Tensor:
    """By the weights that `record_weights` records."""
    return attention_weights(query_BHLK, key_BHMK, mask) @ value_BHMK


@pytest.mark.parametrize("name", list(masks()))
def test_every_path_of_attention_equals_pytorch_s(name: str) -> None:
    query_BHLK = torch.randn(B, H, L, K, dtype=torch.float64, requires_grad=True)
    key_BHMK = torch.randn(B, H, M, K, dtype=torch.float64, requires_grad=True)
    value_BHMK = torch.randn(B, H, M, 13, dtype=torch.float64, requires_grad=True)
    inputs = (query_BHLK, key_BHMK, value_BHMK)
    mask, may = masks()[name]
    expected = F.scaled_dot_product_attention(*inputs, attn_mask=may)
    upstream = torch.randn_like(expected)
    expected_grads = torch.autograd.grad(expected, inputs, upstream)
    for path in (attend, explicit_attention, fused_attention):
        output = path(*inputs, mask)
        torch.testing.assert_close(output, expected, rtol=0.0, atol=1e-12)
        for grad, expected_grad in zip(torch.autograd.grad(output, inputs, upstream), expected_grads, strict=True):
            torch.testing.assert_close(grad, expected_grad, rtol=0.0, atol=1e-12)


class Kernels(TorchFunctionMode):
    """Notes what the fused kernel is given: a mask tensor, causality, and whether it may be cuDNN's."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[bool, bool]] = []
        self.may_be_cudnn: list[bool] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is F.scaled_dot_product_attention:
            self.calls.append((kwargs["attn_mask"] is not None, kwargs["is_causal"]))
            self.may_be_cudnn.append(torch.backends.cuda.cudnn_sdp_enabled())
        return func(*args, **(kwargs or {}))


def test_the_fused_kernel_gets_no_tensor_where_it_needs_none() -> None:
    """So a GPU can take flash attention, which knows causality and no mask."""
    square, last = torch.randn(B, H, M, K), torch.randn(B, H, 1, K)
    everywhere = torch.ones(B, M, dtype=torch.bool)
    for query, mask, expected in (
        (square, Mask(), (False, False)),
        (square, Mask(causal=True), (False, True)),
        (last, Mask(causal=True), (False, False)),
        (square[:, :, 1:], Mask(causal=True), (True, False)),
        (square, Mask(keys_BM=everywhere), (True, False)),
        (square, Mask(causal=True, keys_BM=everywhere), (True, False)),
        (square, Mask(causal=True, window=2), (True, False)),
    ):
        with Kernels() as kernels:
            fused_attention(query, square, square, mask)
        assert kernels.calls == [expected]


def test_no_shape_waits_for_cudnn() -> None:
    """cuDNN would build a plan for each new shape. Outside of our attention the caller's choice holds."""
    before = torch.backends.cuda.cudnn_sdp_enabled()
    heads = torch.randn(B, H, M, K)
    with Kernels() as kernels:
        fused_attention(heads, heads, heads, Mask(causal=True))
    assert kernels.may_be_cudnn == [False]
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


def oracle(weight: Tensor, output: Tensor) -> nn.MultiheadAttention:
    attention = nn.MultiheadAttention(D, H, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        attention.in_proj_weight.copy_(weight)
        attention.out_proj.weight.copy_(output)
    return attention


def test_self_attention_and_its_weights_equal_multihead_attention() -> None:
    config = TransformerConfig(d_model=D, num_heads=H)
    ours = SelfAttention(config).double()
    theirs = oracle(ours.query_key_value.weight, ours.output.weight)
    states_BLD = torch.randn(B, M, D, dtype=torch.float64)
    with record_weights([ours]) as weights:
        output_BLD = ours(states_BLD, Mask(keys_BM=keys()))
    expected_BLD, expected_weights = theirs(
        states_BLD, states_BLD, states_BLD, key_padding_mask=~keys(), average_attn_weights=False
    )
    torch.testing.assert_close(output_BLD, expected_BLD, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(weights, {ours: expected_weights}, rtol=0.0, atol=1e-12)


def test_cross_attention_equals_multihead_attention() -> None:
    config = TransformerConfig(d_model=D, num_heads=H)
    ours = CrossAttention(config).double()
    theirs = oracle(torch.cat([ours.query.weight, ours.key_value.weight]), ours.output.weight)
    states_BLD, memory_BMD = torch.randn(B, L, D).double(), torch.randn(B, M, D).double()
    output_BLD = ours(states_BLD, Source({ours: ours.keys_values(memory_BMD)}, Mask(keys_BM=keys())))
    expected_BLD, _ = theirs(states_BLD, memory_BMD, memory_BMD, key_padding_mask=~keys())
    torch.testing.assert_close(output_BLD, expected_BLD, rtol=0.0, atol=1e-12)


def test_weights_are_recorded_by_the_attention_that_made_them_and_only_in_the_block() -> None:
    """In whatever order they are called, and the last call of each."""
    config = TransformerConfig(d_model=D, num_heads=H)
    first, second, third = (SelfAttention(config) for _ in range(3))
    states_BLD, other_BLD = torch.randn(B, L, D), torch.randn(B, L, D)
    with record_weights([first, second]) as weights:
        for attention, states in ((second, other_BLD), (third, states_BLD), (first, states_BLD), (second, states_BLD)):
            attention(states, Mask())
    assert weights.keys() == {first, second}
    recorded = dict(weights)
    first(other_BLD, Mask())
    assert weights[first] is recorded[first], "the block is over"
    for attention in (first, second):
        query, key, _ = attention.query_key_value(states_BLD).unflatten(-1, (3, H, K)).permute(2, 0, 3, 1, 4)
        torch.testing.assert_close(weights[attention], (query @ key.mT / math.sqrt(K)).softmax(dim=-1))


def test_a_cache_holds_the_keys_and_values_of_each_attention() -> None:
    config = TransformerConfig(d_model=D, num_heads=H)
    first, second = SelfAttention(config), SelfAttention(config)
    states_BLD = torch.randn(B, L, D)
    cache: Cache = {}
    outputs = [
        (first(part_BLD, Mask(causal=True), cache=cache), second(part_BLD, Mask(causal=True), cache=cache))
        for part_BLD in states_BLD.split([2, 1, 2], dim=1)
    ]
    for attention, parts in zip((first, second), zip(*outputs, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(parts, dim=1), attention(states_BLD, Mask(causal=True)))
        assert cache[attention].key_BHMK.shape == cache[attention].value_BHMK.shape == (B, H, L, K)


def test_the_rows_of_a_sentence_share_its_source() -> None:
    beams = 4
    cross = CrossAttention(TransformerConfig(d_model=D, num_heads=H)).double()
    memory_BMD, states_NLD = torch.randn(B, M, D).double(), torch.randn(B * beams, L, D).double()
    mask = Mask(keys_BM=keys())
    output_NLD = cross(states_NLD, Source({cross: cross.keys_values(memory_BMD)}, mask))
    copied = Source(
        {cross: cross.keys_values(memory_BMD.repeat_interleave(beams, dim=0))},
        Mask(keys_BM=keys().repeat_interleave(beams, dim=0)),
    )
    torch.testing.assert_close(output_NLD, cross(states_NLD, copied), rtol=0.0, atol=1e-12)


def test_query_and_value_heads_have_widths_of_their_own() -> None:
    key_size, value_size = 5, 13
    ours = SelfAttention(TransformerConfig(d_model=D, num_heads=H, d_k=key_size, d_v=value_size)).double()
    states_LD = torch.randn(L, D, dtype=torch.float64)
    query, key, value = ours.query_key_value.weight.split([H * key_size, H * key_size, H * value_size])
    heads = []
    for head in range(H):
        keys, values = slice(head * key_size, (head + 1) * key_size), slice(head * value_size, (head + 1) * value_size)
        score_LM = (states_LD @ query[keys].T) @ (states_LD @ key[keys].T).T / math.sqrt(key_size)
        heads.append(score_LM.softmax(dim=-1) @ (states_LD @ value[values].T))
    expected_LD = torch.cat(heads, dim=-1) @ ours.output.weight.T
    torch.testing.assert_close(ours(states_LD[None], Mask())[0], expected_LD, rtol=0.0, atol=1e-12)


def test_every_projection_is_initialised_by_its_own_fans() -> None:
    """Xavier's bound is that of one projection, not of the matrix that several share."""
    config = TransformerConfig(d_model=30, num_heads=2, d_k=7, d_v=53)
    attention, cross = SelfAttention(config), CrossAttention(config)
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
