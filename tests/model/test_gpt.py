"""The GPT equals GPT-2 of `transformers`, and its steps equal its forward pass."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from lit_transformer.errors import UserError
from lit_transformer.model.gpt import GPT, GPT2
from lit_transformer.model.masks import Mask
from tests.helpers.oracles import TOLERANCE, gpt_weights, load, randomize

B, L, V = 3, 13, 29
CONFIG = replace(GPT2, d_model=35, d_ff=23, num_heads=5, num_layers=2, max_positions=17, dropout=0.0)
LENGTHS = torch.tensor([L, 5, 7])
every_dtype = pytest.mark.parametrize("dtype", list(TOLERANCE))


def make_pair(dtype: torch.dtype) -> tuple[GPT, Any]:
    """The model and its oracle, with the same random numbers."""
    oracle: Any = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=V,
            n_positions=17,
            n_embd=35,
            n_layer=2,
            n_head=5,
            n_inner=23,
            bos_token_id=1,
            eos_token_id=1,
        )
    )
    randomize(oracle, dtype)
    gpt = GPT(CONFIG, vocab_size=V).to(dtype).eval()
    load(gpt, gpt_weights(oracle))
    return gpt, oracle


def random_tokens() -> Tensor:
    return torch.randint(V, (B, L))


def assert_equal(mine: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.1
    torch.testing.assert_close(mine, theirs, rtol=0.0, atol=TOLERANCE[theirs.dtype])


@every_dtype
def test_it_equals_gpt2(dtype: torch.dtype) -> None:
    gpt, oracle = make_pair(dtype)
    token_BL = random_tokens()
    assert_equal(gpt(token_BL), oracle(token_BL).logits)


@every_dtype
def test_gradients_of_the_loss_equal_those_of_gpt2(dtype: torch.dtype) -> None:
    gpt, oracle = make_pair(dtype)
    token_BL = random_tokens()
    for model in (gpt, lambda tokens: oracle(tokens).logits):
        F.cross_entropy(model(token_BL[:, :-1]).flatten(0, 1), token_BL[:, 1:].flatten()).backward()
    for mine, theirs in (
        (gpt.embedding.weight, oracle.transformer.wte.weight),
        (gpt.stack.positions.get_parameter("table.weight"), oracle.transformer.wpe.weight),
        (gpt.stack.layers[0].self_attention.query_key_value.bias, oracle.transformer.h[0].attn.c_attn.bias),
        (gpt.stack.layers[1].feed_forward.outer.bias, oracle.transformer.h[1].mlp.c_proj.bias),
    ):
        assert theirs.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=TOLERANCE[dtype])


@every_dtype
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_is_as_in_gpt2(dtype: torch.dtype, side: str) -> None:
    """`forward` needs no mask for padding at the end. Padding at the beginning needs one, and positions."""
    gpt, oracle = make_pair(dtype)
    token_BL = random_tokens()
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
def test_a_prompt_and_steps_equal_the_forward_pass(dtype: torch.dtype, prompt: int) -> None:
    gpt, oracle = make_pair(dtype)
    token_BL = random_tokens()
    expected = oracle(token_BL).logits
    logits_BV, state = gpt.read(token_BL[:, :prompt], gpt.start())
    assert_equal(logits_BV, expected[:, prompt - 1])
    for place in range(prompt, L):
        logits_BV, state = gpt.step(token_BL[:, place], state)
        assert_equal(logits_BV, expected[:, place])


def test_a_state_may_be_used_twice() -> None:
    """A search tries several tokens after the same ones."""
    gpt, _ = make_pair(torch.float64)
    token_BL = random_tokens()
    _, state = gpt.read(token_BL[:, :4], gpt.start(beam_size=1))
    gpt.step(token_BL[:, 9], state)
    assert_equal(gpt.step(token_BL[:, 4], state)[0], gpt(token_BL[:, :5])[:, -1])


def test_attention_maps_equal_those_of_gpt2() -> None:
    gpt, oracle = make_pair(torch.float64)
    token_BL = random_tokens()
    theirs = oracle(token_BL, output_attentions=True).attentions
    maps = gpt.attention_maps(token_BL)
    assert list(maps) == [0, 1]
    for layer, weights_BHLL in maps.items():
        assert_equal(weights_BHLL, theirs[layer])
    assert list(gpt.attention_maps(token_BL, [1])) == [1]
    assert gpt.attention_maps(token_BL, []) == {}


def test_more_tokens_than_positions_are_one_error() -> None:
    gpt, _ = make_pair(torch.float32)
    _, state = gpt.read(torch.zeros(1, 17, dtype=torch.int64), gpt.start())
    for call in (lambda: gpt(torch.zeros(1, 18, dtype=torch.int64)), lambda: gpt.step(torch.zeros(1).long(), state)):
        with pytest.raises(UserError, match=r"18 tokens .* max_positions 17"):
            call()


def test_the_published_size() -> None:
    with torch.device("meta"):
        gpt, published = GPT(GPT2, vocab_size=50257), GPT2LMHeadModel(GPT2Config())
    assert sum(parameter.numel() for parameter in gpt.parameters()) == published.num_parameters() == 124_439_808
