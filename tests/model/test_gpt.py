"""The GPT equals GPT-2 of `transformers`, and its steps equal its forward pass."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from lit_transformer.errors import UserError
from lit_transformer.model.gpt import GPT, GPT2
from lit_transformer.model.masks import Mask
from tests.helpers.foreign import (
    LONGEST,
    VOCAB_SIZE,
    assert_equal,
    every_dtype,
    gpt2,
    load,
    random_tokens,
    save,
)
from tests.helpers.oracles import TOLERANCE

B, L = 3, 13
LENGTHS = torch.tensor([L, 5, 7])


def random_gpt() -> GPT:
    config = replace(GPT2, d_model=35, d_ff=23, num_heads=5, num_layers=2, max_positions=LONGEST)
    return GPT(config, vocab_size=VOCAB_SIZE).double().eval()


@every_dtype
def test_gradients_of_the_loss_equal_those_of_gpt2(tmp_path: Path, dtype: torch.dtype) -> None:
    oracle = save(gpt2(), tmp_path, dtype)
    gpt, token_BL = load(tmp_path).requires_grad_(True), random_tokens(B, L)
    logits_BLV, theirs_BLV = gpt(token_BL), oracle(token_BL).logits
    assert_equal(logits_BLV, theirs_BLV)
    for logits in (logits_BLV, theirs_BLV):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), token_BL[:, 1:].flatten()).backward()
    for mine, theirs in (
        (gpt.embedding.weight, oracle.transformer.wte.weight),
        (gpt.stack.positions.table.weight, oracle.transformer.wpe.weight),
        (gpt.stack.layers[0].self_attention.query_key_value.bias, oracle.transformer.h[0].attn.c_attn.bias),
        (gpt.stack.layers[1].feed_forward.outer.bias, oracle.transformer.h[1].mlp.c_proj.bias),
    ):
        assert theirs.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=TOLERANCE[dtype])


@every_dtype
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_is_as_in_gpt2(tmp_path: Path, dtype: torch.dtype, side: str) -> None:
    """`forward` needs no mask for padding at the end. Padding at the beginning needs one, and positions."""
    oracle = save(gpt2(), tmp_path, dtype)
    gpt, token_BL = load(tmp_path), random_tokens(B, L)
    exists_BL = torch.arange(L) < LENGTHS[:, None]
    if side == "left":
        exists_BL = exists_BL.flip(1)
    positions_BL = (exists_BL.cumsum(1) - 1).clamp(min=0)
    theirs = oracle(token_BL, attention_mask=exists_BL, position_ids=positions_BL).logits
    if side == "right":
        mine = gpt(token_BL)
    else:
        mask = Mask(causal=True, keys_BM=exists_BL)
        states_BLD = gpt.stack(gpt.embedding(token_BL), mask, positions_BL=positions_BL)
        mine = gpt.output(states_BLD, gpt.embedding.weight)
    assert_equal(mine[exists_BL], theirs[exists_BL])


@every_dtype
@pytest.mark.parametrize("prompt", [1, 6])
def test_a_prompt_and_steps_equal_the_forward_pass(tmp_path: Path, dtype: torch.dtype, prompt: int) -> None:
    oracle = save(gpt2(), tmp_path, dtype)
    gpt, token_BL = load(tmp_path), random_tokens(B, LONGEST)
    expected = oracle(token_BL).logits
    logits_BV, state = gpt.read(token_BL[:, :prompt], gpt.start())
    assert_equal(logits_BV, expected[:, prompt - 1])
    for place in range(prompt, LONGEST):
        logits_BV, state = gpt.step(token_BL[:, place], state)
        assert_equal(logits_BV, expected[:, place])


def test_a_state_may_be_used_twice() -> None:
    """A search tries several tokens after the same ones."""
    gpt, token_BL = random_gpt(), random_tokens(B, L)
    _, state = gpt.read(token_BL[:, :4], gpt.start())
    gpt.step(token_BL[:, 9], state)
    assert_equal(gpt.step(token_BL[:, 4], state)[0], gpt(token_BL[:, :5])[:, -1])


def test_attention_maps_equal_those_of_gpt2(tmp_path: Path) -> None:
    oracle = save(gpt2(), tmp_path, torch.float64)
    gpt, token_BL = load(tmp_path), random_tokens(B, L)
    maps, theirs = gpt.attention_maps(token_BL), oracle(token_BL, output_attentions=True).attentions
    assert list(maps) == [0, 1]
    for layer, weights_BHLL in maps.items():
        assert_equal(weights_BHLL, theirs[layer])
    assert list(gpt.attention_maps(token_BL, [1])) == [1]
    assert gpt.attention_maps(token_BL, []) == {}


def test_more_tokens_than_positions_are_one_error() -> None:
    gpt = random_gpt()
    _, state = gpt.read(random_tokens(1, LONGEST), gpt.start())
    for call in (lambda: gpt(random_tokens(1, LONGEST + 1)), lambda: gpt.step(random_tokens(1, 1)[0], state)):
        with pytest.raises(UserError, match=rf"{LONGEST + 1} tokens .* max_positions {LONGEST}"):
            call()


def test_the_published_settings(tmp_path: Path) -> None:
    save(gpt2(), tmp_path)
    assert load(tmp_path).config == random_gpt().config
    with torch.device("meta"):
        gpt, published = GPT(GPT2, vocab_size=50257), GPT2LMHeadModel(GPT2Config())
    assert sum(parameter.numel() for parameter in gpt.parameters()) == published.num_parameters() == 124_439_808
