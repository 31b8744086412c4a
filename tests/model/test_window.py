"""Sliding windows: in blocks, in a cache and with a mask written out they are the same, and their cost is bounded."""

import dataclasses
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import MistralConfig, MistralForCausalLM

from lit_transformer.model.attention import (
    KeysValues,
    attend,
    attention_in_blocks,
    attention_weights,
    record_weights,
)
from lit_transformer.model.config import PositionScheme, TransformerConfig
from lit_transformer.model.gpt import GPT
from lit_transformer.model.masks import Mask
from lit_transformer.model.packing import PackedRow, RowPair
from lit_transformer.model.positions import make_positions
from lit_transformer.model.stack import DecoderState, Stack
from lit_transformer.model.transformer import Transformer
from lit_transformer.model.window import Blocks
from tests.helpers.oracles import TOLERANCE, load

B, H, K, V = 3, 2, 7, 5
SCHEMES: tuple[PositionScheme, ...] = get_args(PositionScheme)
SIZES = [2, 3, 5, 11, 31, 37, 67, 101, 131, 211]


def by_head(distance_LM: Tensor) -> Tensor:
    """ALiBi's kind of bias, and another one for keys behind the query."""
    return torch.stack([-0.1 * distance_LM.abs(), distance_LM.clamp(min=-1)])


def heads(rows: int, length: int, size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(rows, H, length, size, dtype=dtype, requires_grad=True)


def with_gradients(output: Tensor, inputs: tuple[Tensor, ...], seed: int) -> list[Tensor]:
    """The output, and gradients that depend on all of it."""
    upstream = torch.randn(output.shape, dtype=output.dtype, generator=torch.Generator().manual_seed(seed))
    return [output, *torch.autograd.grad(output, inputs, upstream)]


@st.composite
def masks(draw: st.DrawFn) -> tuple[int, int, Mask]:
    """Queries, keys, and a mask with a window and anything else that a mask can have."""
    length = draw(st.sampled_from(SIZES))
    keys = length + draw(st.sampled_from([0, 0, 1, 13, 41]))
    seed = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    keys_BM = segments_BM = None
    if draw(st.booleans()):  # at either end, as batches and prompts have it, or anywhere
        number_B1, count_M = torch.randint(1, keys + 1, (B, 1), generator=seed), torch.arange(keys)
        where = draw(st.sampled_from(["right", "left", "anywhere"]))
        keys_BM = {
            "right": count_M < number_B1,
            "left": count_M >= keys - number_B1,
            "anywhere": torch.rand(B, keys, generator=seed) < 0.7,
        }[where]
    if draw(st.booleans()):
        segments_BM = (torch.rand(B, keys, generator=seed) < 0.1).cumsum(dim=1)
    mask = Mask(
        causal=draw(st.booleans()),
        window=draw(st.sampled_from([1, 2, 3, 7, 17, 47, 97])),
        keys_BM=keys_BM,
        segments_BM=segments_BM,
        distance_bias=by_head if draw(st.booleans()) else None,
    )
    return length, keys, mask


@settings(max_examples=150)
@given(masks(), st.sampled_from([None, 1, 2, 3, 8, 19]))
def test_blocks_equal_full_attention_with_a_mask(case: tuple[int, int, Mask], size: int | None) -> None:
    """Outputs and gradients, with blocks of every size."""
    length, keys, mask = case
    assert mask.window is not None
    torch.manual_seed(length)
    inputs = heads(B, length, K), heads(B, keys, K), heads(B, keys, V)
    blocks = Blocks.cut(length, keys, mask.window, causal=mask.causal)
    blocks = blocks._replace(size=size or blocks.size)
    found = with_gradients(attention_in_blocks(*inputs, mask, blocks), inputs, length)
    full = attention_weights(*inputs[:2], mask) @ inputs[2]
    for mine, theirs in zip(found, with_gradients(full, inputs, length), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-10)
    torch.testing.assert_close(attend(*inputs, mask), full, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("causal", [False, True])
def test_in_bfloat16_blocks_are_as_near_as_full_attention(causal: bool) -> None:
    mask = Mask(causal=causal, window=5)
    query, key, value = heads(B, 307, K), heads(B, 307, K), heads(B, 307, V)
    output = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), mask)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), attend(query, key, value, mask), rtol=0.0, atol=0.1)


@pytest.mark.parametrize("causal", [False, True])
def test_packed_rows_have_windows(causal: bool) -> None:
    """The sentences of a row, long and short ones, are as each of them alone."""
    lengths, mask = (211, 2, 307), Mask(causal=causal, window=5)
    positions_1X = torch.cat([torch.arange(length) for length in lengths])[None]
    borders_X = torch.tensor([0, *lengths]).cumsum(0).int()
    row = PackedRow.make(positions_1X, borders_X, torch.arange(max(lengths)), longest=max(lengths))
    query, key, value = (heads(1, sum(lengths), size) for size in (K, K, V))
    packed = attend(query, key, value, dataclasses.replace(mask, packing=RowPair(row, row)))
    alone = zip(*(one.split(lengths, dim=2) for one in (query, key, value)), strict=True)
    expected = torch.cat([attention_weights(q, k, mask) @ v for q, k, v in alone], dim=2)
    torch.testing.assert_close(packed, expected, rtol=0.0, atol=1e-10)


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.num_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        sizes = [leaf.numel() for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.num_elements = max(self.num_elements, *sizes, 0)
        return result


@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("causal", [False, True])
def test_nothing_grows_with_the_square_of_the_length(positions: PositionScheme, causal: bool) -> None:
    config = TransformerConfig(
        d_model=8, d_ff=8, num_heads=2, num_layers=1, positions=positions, window=7, max_positions=8000
    )
    stack = Stack(config, make_positions(config))
    largest = []
    for length in (1000, 8000):
        keys_BL = torch.arange(length)[None] < length - 3
        with Largest() as mode:
            stack(torch.randn(1, length, 8), Mask(causal=causal, keys_BM=keys_BL)).sum().backward()
        largest.append(mode.num_elements)
    assert largest[1] < 8.5 * largest[0]
    assert largest[0] < 1000**2


def test_short_sequences_are_not_cut() -> None:
    """One block would have more scores than there are."""
    query = heads(1, 64, K)
    with Largest() as mode:
        attend(query, query, query, Mask(causal=True, window=47))
    assert mode.num_elements == H * 64 * 64


CONFIG = TransformerConfig(
    d_model=22, d_ff=13, num_heads=2, num_layers=2, d_k=6, d_v=5, dropout=0.0, max_positions=211, window=5
)


def make_stack(positions: PositionScheme) -> tuple[Stack, Tensor]:
    """In float64 and with every parameter random, and what it reads."""
    config = dataclasses.replace(CONFIG, positions=positions)
    stack = Stack(config, make_positions(config, causal=True)).double()
    for parameter in stack.parameters():
        nn.init.normal_(parameter, std=0.3)
    return stack.requires_grad_(False), torch.randn(B, 199, config.d_model, dtype=torch.float64)


def bytes_of(state: DecoderState) -> int:
    """The memory that a cache keeps."""
    tensors = [heads for past in state.cache.values() for heads in (past.key_BHMK, past.value_BHMK)]
    return sum({heads.data_ptr(): heads.untyped_storage().nbytes() for heads in tensors}.values())


@pytest.mark.parametrize("positions", SCHEMES)
@pytest.mark.parametrize("chunks", [[1] * 31, [0, 1, 3, 7, 11, 1, 1, 1, 6], [150, 1, 1, 40, 7]])
def test_with_a_bounded_cache_it_is_as_at_once(positions: PositionScheme, chunks: list[int]) -> None:
    """Also after rows and sentences were dropped and put in another order."""
    stack, vectors_BLD = make_stack(positions)
    length = sum(chunks)
    expected_BLD = stack(vectors_BLD[:, :length], Mask(causal=True))
    assert expected_BLD.std() > 0.1
    state, row_N, begin = DecoderState(beam_size=1), torch.arange(B), 0
    for number, chunk in enumerate(size for size in chunks if size):
        part_BLD = vectors_BLD[row_N, begin : begin + chunk]
        states_BLD = stack(part_BLD, Mask(causal=True), cache=state.cache)
        torch.testing.assert_close(states_BLD, expected_BLD[row_N, begin : begin + chunk], rtol=0.0, atol=1e-5)
        begin += chunk
        if number == 1:
            order = torch.tensor([2, 2, 0])
            state, row_N = state.reorder(order), row_N[order]
        if number == 2:
            order = torch.tensor([2, 1])
            state, row_N = state.keep(order), row_N[order]
        for past in state.cache.values():
            assert past.num_positions == begin
            assert past.key_BHMK.shape[2] == min(begin, 4)


def test_the_memory_of_a_cache_is_bounded_by_the_window() -> None:
    stack, vectors_BLD = make_stack("sinusoidal")
    state, sizes = DecoderState(beam_size=1), []
    stack(vectors_BLD[:, :100], Mask(causal=True), cache=state.cache)
    one_position = B * CONFIG.num_layers * CONFIG.num_heads * (6 + 5) * 8
    assert bytes_of(state) <= 2 * 5 * one_position
    for position in range(100, 150):
        stack(vectors_BLD[:, position : position + 1], Mask(causal=True), cache=state.cache)
        sizes.append(bytes_of(state))
    assert set(sizes) == {5 * one_position}


def test_a_window_of_one_position_keeps_nothing() -> None:
    past = KeysValues(heads(B, 9, K), heads(B, 9, V)).recent(1)
    assert past.key_BHMK.shape[2] == 0
    later = past.append(KeysValues(heads(B, 2, K), heads(B, 2, V)))
    assert (later.key_BHMK.shape[2], later.num_positions) == (2, 11)


@pytest.mark.parametrize("positions", SCHEMES)
def test_a_prompt_padded_on_the_left_and_steps_after_it(positions: PositionScheme) -> None:
    """The mask knows all keys, and the cache has the last ones only."""
    stack, vectors_BLD = make_stack(positions)
    length, lengths_B1 = 17, torch.tensor([[17], [3], [9]])
    position_BL = torch.arange(length + 6) - (length - lengths_B1)
    cache = DecoderState(beam_size=1).cache
    parts = []
    for begin, end in ((0, length), (length, length + 1), (length + 1, length + 6)):
        mask = Mask(causal=True, keys_BM=position_BL[:, :end] >= 0)
        positions_BL = position_BL[:, begin:end].clamp(min=0)
        parts.append(stack(vectors_BLD[:, begin:end], mask, positions_BL=positions_BL, cache=cache))
    states_BLD = torch.cat(parts, dim=1)
    for row, own in enumerate(lengths_B1[:, 0].tolist()):
        alone_1LD = stack(vectors_BLD[row : row + 1, length - own : length + 6], Mask(causal=True))
        torch.testing.assert_close(states_BLD[row, length - own :], alone_1LD[0], rtol=0.0, atol=1e-5)


def test_a_translator_with_a_window_attends_near_in_the_target_and_the_source_and_everywhere_to_the_source() -> None:
    config = dataclasses.replace(CONFIG, num_layers=1)
    transformer = Transformer(config, vocab_size=19, pad_id=0).double()
    source_BS, target_BT = torch.randint(1, 19, (2, 151)), torch.randint(1, 19, (2, 157))
    maps = transformer.attention_maps(source_BS, target_BT)
    distance_SS = torch.arange(151)[:, None] - torch.arange(151)
    distance_TT = torch.arange(157)[:, None] - torch.arange(157)
    for weights, near in (
        (maps.encoder[0], distance_SS.abs() < 5),
        (maps.decoder[0], (distance_TT >= 0) & (distance_TT < 5)),
        (maps.cross[0], torch.ones(157, 151, dtype=torch.bool)),
    ):
        assert torch.equal(weights > 0.0, near.expand_as(weights))


def test_recorded_weights_are_those_of_the_blocks() -> None:
    stack, vectors_BLD = make_stack("alibi")
    [attention] = stack.self_attentions[:1]
    seen: list[tuple[Tensor, Tensor]] = []
    hook = attention.scaled_dot_product.register_forward_hook(
        lambda _, inputs, output: seen.append((inputs[2], output))
    )
    with record_weights([attention]) as weights:
        stack(vectors_BLD, Mask(causal=True))
    hook.remove()
    [(value_BHMK, output_BHLK)] = seen
    torch.testing.assert_close(weights[attention] @ value_BHMK, output_BHLK, rtol=0.0, atol=1e-6)


def mistral_weights(oracle: Any) -> dict[str, Tensor]:
    """Mistral rotates dimension i of a head with i + d_k/2, and the paper 2i with 2i + 1."""
    theirs, ours = oracle.state_dict(), {}
    for name, new in (("model.embed_tokens", "embedding"), ("model.norm", "stack.norm"), ("lm_head", "output")):
        ours[f"{new}.weight"] = theirs[f"{name}.weight"]
    for layer in range(oracle.config.num_hidden_layers):
        old, new = f"model.layers.{layer}", f"stack.layers.{layer}"
        query, key, value = (theirs[f"{old}.self_attn.{one}_proj.weight"] for one in "qkv")
        by_turns = (one.unflatten(0, (H, 2, -1)).transpose(1, 2).flatten(0, 2) for one in (query, key))
        ours[f"{new}.self_attention.query_key_value.weight"] = torch.cat([*by_turns, value])
        inner = [theirs[f"{old}.mlp.{one}_proj.weight"] for one in ("gate", "up")]
        ours[f"{new}.feed_forward.inner.weight"] = torch.cat(inner)
        for one, mine in (
            ("self_attn.o_proj", "self_attention.output"),
            ("mlp.down_proj", "feed_forward.outer"),
            ("input_layernorm", "self_attention_norm.norm"),
            ("post_attention_layernorm", "feed_forward_norm.norm"),
        ):
            ours[f"{new}.{mine}.weight"] = theirs[f"{old}.{one}.weight"]
    return ours


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(("base", "scaling"), [(10000.0, 1.0), (500000.0, 4.0)])
def test_a_gpt_with_rotary_positions_and_a_window_equals_mistral(
    dtype: torch.dtype, base: float, scaling: float
) -> None:
    """Also in steps, after a prompt. Angles are computed in float32."""
    kind = {"rope_type": "linear", "factor": scaling} if scaling != 1.0 else {"rope_type": "default"}
    oracle: Any = MistralForCausalLM(
        MistralConfig(
            vocab_size=29,
            hidden_size=22,
            intermediate_size=13,
            head_dim=6,
            num_hidden_layers=2,
            num_attention_heads=H,
            num_key_value_heads=H,
            sliding_window=5,
            rope_parameters={**kind, "rope_theta": base},
        )
    )
    oracle.to(dtype).eval().set_attn_implementation("eager")
    for weight in oracle.requires_grad_(False).parameters():
        weight.normal_(std=0.3)
    config = dataclasses.replace(
        CONFIG,
        d_v=6,
        norm="pre",
        norm_type="rms",
        norm_epsilon=1e-6,
        positions="rotary",
        rotary_base=base,
        rotary_scaling=scaling,
        activation="gated_silu",
        feed_forward_bias=False,
        scale_embedding=False,
        tied_output=False,
    )
    gpt = GPT(config, vocab_size=29).to(dtype).eval().requires_grad_(False)
    load(gpt, mistral_weights(oracle))
    token_BL = torch.randint(29, (B, 199))
    expected_BLV = oracle(token_BL).logits
    assert expected_BLV.std() > 0.1
    torch.testing.assert_close(gpt(token_BL), expected_BLV, rtol=0.0, atol=1e-5)
    logits_NV, state = gpt.read(token_BL[:, :150], gpt.start())
    for position in range(150, 199):
        torch.testing.assert_close(logits_NV, expected_BLV[:, position - 1], rtol=0.0, atol=1e-5)
        logits_NV, state = gpt.step(token_BL[:, position], state)
