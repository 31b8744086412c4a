import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb

from lit_transformer.model.config import PositionScheme, TransformerConfig
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import (
    AlibiPositions,
    LearnedPositions,
    Positions,
    RotaryPositions,
    SinusoidalPositions,
    alibi_slopes,
    make_positions,
    sinusoids,
)

CPU = torch.device("cpu")


def positions_from(start: int, length: int) -> Tensor:
    """`length` positions from `start`, 1 x L."""
    return torch.arange(start, start + length)[None]


def assert_depends_on_distance_only(score_LM: Tensor) -> None:
    torch.testing.assert_close(score_LM[1:, 1:], score_LM[:-1, :-1], rtol=0.0, atol=1e-4)
    assert score_LM[0].unique().numel() == score_LM.shape[1], "every distance has a score of its own"


def test_sinusoids_follow_the_formula_of_section_3_5() -> None:
    start, length, d_model = 11, 7, 22
    expected = torch.empty(length, d_model, dtype=torch.float64)
    for position in range(length):
        for dimension in range(0, d_model, 2):
            angle = (start + position) / 10000 ** (dimension / d_model)
            expected[position, dimension] = math.sin(angle)
            expected[position, dimension + 1] = math.cos(angle)
    torch.testing.assert_close(
        sinusoids(positions_from(start, length)[0], d_model).double(), expected, rtol=0.0, atol=1e-5
    )
    states_BLD = torch.randn(3, length, d_model)
    added_BLD = SinusoidalPositions().embed(states_BLD, positions_from(start, length)) - states_BLD
    torch.testing.assert_close(added_BLD.double(), expected.expand(3, -1, -1), rtol=0.0, atol=1e-5)


def test_learned_positions_add_one_row_of_the_table_a_position() -> None:
    positions = LearnedPositions(5, max_positions=13)
    states_BLD = torch.randn(3, 7, 5)
    expected = positions.table(torch.arange(6, 13))
    added_BLD = positions.embed(states_BLD, positions_from(6, 7)) - states_BLD
    torch.testing.assert_close(added_BLD, expected.expand(3, -1, -1))
    assert positions.longest == 13


def test_rotary_scores_depend_on_distance_only() -> None:
    length, size = 13, 10
    query_K, key_K = torch.randn(2, size)
    rotate = RotaryPositions(size, base=10000.0, scaling=1.0).rotation(positions_from(0, length))
    query_HLK, key_HLK = (rotate(one_K.expand(1, 1, length, size))[0] for one_K in (query_K, key_K))
    score_LM = (query_HLK @ key_HLK.transpose(-1, -2))[0]
    assert_depends_on_distance_only(score_LM)
    # Far from the start as well, which is what decoding asks for.
    rotate = RotaryPositions(size, base=10000.0, scaling=1.0).rotation(positions_from(1009, length))
    query_HLK, key_HLK = (rotate(one_K.expand(1, 1, length, size))[0] for one_K in (query_K, key_K))
    torch.testing.assert_close((query_HLK @ key_HLK.transpose(-1, -2))[0], score_LM, rtol=0.0, atol=1e-3)


def test_rotary_turns_pairs_by_the_angles_of_the_paper() -> None:
    start, length, size = 3, 5, 6
    heads_BHLK = torch.randn(2, 7, length, size)
    complex_BHLK = torch.view_as_complex(heads_BHLK.unflatten(-1, (-1, 2)).contiguous())
    angle = torch.tensor(
        [[(start + position) * 10000 ** (-2 * pair / size) for pair in range(size // 2)] for position in range(length)]
    )
    expected = torch.view_as_real(complex_BHLK * torch.polar(torch.ones_like(angle), angle)).flatten(-2)
    torch.testing.assert_close(
        RotaryPositions(size, base=10000.0, scaling=1.0).rotation(positions_from(start, length))(heads_BHLK),
        expected,
        rtol=0.0,
        atol=1e-5,
    )


def rotary_scores(rotary: RotaryPositions, query_K: Tensor, key_K: Tensor, position_L: Tensor) -> Tensor:
    """The scores of one query at position 0 with one key at each position."""
    query_K, key_LK = query_K.expand(1, 1, 1, -1), key_K.expand(1, 1, len(position_L), -1)
    query_11K = rotary.rotation(torch.zeros(1, 1))(query_K)[0, 0]
    return (query_11K @ rotary.rotation(position_L[None])(key_LK)[0, 0].T)[0]


def test_scaled_rotary_scores_are_those_of_a_smaller_distance() -> None:
    """So no distance is larger than in training if a sequence is `scaling` times as long (Chen et al. 2023)."""
    query_K, key_K = torch.randn(2, 10)
    position_L = torch.arange(-13, 14)
    plain, scaled = (RotaryPositions(10, base=10000.0, scaling=scaling) for scaling in (1.0, 4.0))
    expected_L = rotary_scores(plain, query_K, key_K, position_L)
    torch.testing.assert_close(rotary_scores(scaled, query_K, key_K, 4 * position_L), expected_L)
    between_L = rotary_scores(scaled, query_K, key_K, 4 * position_L + 2)[:-1]
    torch.testing.assert_close(between_L, rotary_scores(plain, query_K, key_K, position_L[:-1] + 0.5))


@pytest.mark.parametrize("base", [100.0, 10000.0, 500000.0])
def test_rotary_wavelengths_grow_with_the_base(base: float) -> None:
    """Pair i returns after 2 pi base^(2i/d) positions, and after half of them it points the other way."""
    size, scaling = 8, 2.0
    rotary = RotaryPositions(size, base=base, scaling=scaling)
    for pair in range(size // 2):
        heads_K = torch.zeros(size)
        heads_K[2 * pair : 2 * pair + 2] = torch.tensor([0.6, 0.8])
        wavelength = 2 * math.pi * base ** (2 * pair / size) * scaling
        part_L = torch.tensor([0.0, 0.25, 0.5, 1.0])
        scores_L = rotary_scores(rotary, heads_K, heads_K, part_L * wavelength)
        torch.testing.assert_close(scores_L, torch.tensor([1.0, 0.0, -1.0, 1.0]), rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(("base", "scaling"), [(10000.0, 1.0), (10000.0, 3.0), (500000.0, 8.0)])
def test_rotary_positions_equal_those_of_llama(base: float, scaling: float) -> None:
    """Llama rotates dimension i with i + d/2, and the paper 2i with 2i + 1."""
    size, position_BL = 10, torch.tensor([[0, 1, 2, 3], [7, 50, 211, 997]])
    kind = {"rope_type": "linear", "factor": scaling} if scaling != 1.0 else {"rope_type": "default"}
    theirs = LlamaRotaryEmbedding(LlamaConfig(head_dim=size, rope_parameters={**kind, "rope_theta": base}))
    query_BHLK, key_BHLK = torch.randn(2, 2, 3, 4, size)
    in_halves = torch.arange(size).unflatten(0, (-1, 2)).T.flatten()
    expected = apply_rotary_pos_emb(
        query_BHLK[..., in_halves], key_BHLK[..., in_halves], *theirs(query_BHLK, position_BL)
    )
    rotate = RotaryPositions(size, base, scaling).rotation(position_BL)
    for heads_BHLK, expected_BHLK in zip((query_BHLK, key_BHLK), expected, strict=True):
        torch.testing.assert_close(rotate(heads_BHLK)[..., in_halves], expected_BHLK, rtol=0.0, atol=1e-3)


def test_alibi_slopes_are_those_of_the_paper() -> None:
    eight = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(8, CPU).tolist() == eight
    sixteen = [2.0 ** -(0.5 * head) for head in range(1, 17)]
    assert alibi_slopes(16, CPU).tolist() == pytest.approx(sixteen, rel=1e-6)
    # Where the number of heads is no power of 2: those of 8, then the 1st, 3rd, 5th and 7th of 16.
    assert alibi_slopes(12, CPU).tolist() == pytest.approx([*eight, *sixteen[0:8:2]], rel=1e-6)
    assert alibi_slopes(1, CPU).tolist() == [2.0**-8]


def test_alibi_bias_is_minus_slope_times_distance_wherever_the_queries_begin() -> None:
    length, num_heads = 7, 3
    mask = AlibiPositions(num_heads).add_bias(Mask())
    bias_HLM = mask.bias(length, length, CPU)
    assert bias_HLM is not None
    for head, slope in enumerate(alibi_slopes(num_heads, CPU).tolist()):
        expected = [[-slope * abs(query - key) for key in range(length)] for query in range(length)]
        torch.testing.assert_close(bias_HLM[head], torch.tensor(expected))
        torch.testing.assert_close(bias_HLM[head, 1:, 1:], bias_HLM[head, :-1, :-1])
    torch.testing.assert_close(mask.bias(1, length, CPU), bias_HLM[:, -1:])


def test_alibi_keeps_the_rest_of_the_mask() -> None:
    mask = Mask(causal=True, window=3, keys_BM=torch.ones(2, 5, dtype=torch.bool))
    biased = AlibiPositions(3).add_bias(mask)
    assert (biased.causal, biased.window, biased.keys_BM) == (mask.causal, mask.window, mask.keys_BM)


def rotated(positions: Positions, heads_BHLK: Tensor, position_BL: Tensor) -> Tensor:
    rotate = positions.rotation(position_BL)
    return heads_BHLK if rotate is None else rotate(heads_BHLK)


@pytest.mark.parametrize("scheme", get_args(PositionScheme))
def test_rows_may_have_positions_of_their_own(scheme: PositionScheme) -> None:
    """Each row is as it is alone."""
    positions = make_positions(TransformerConfig(d_model=22, num_heads=1, positions=scheme))
    vectors_BLD, heads_BHLK = torch.randn(2, 5, 22), torch.randn(2, 3, 5, 22)
    position_BL = torch.tensor([[0, 1, 2, 0, 1], [0, 0, 1, 2, 3]])
    for row in range(2):
        alone_L = position_BL[row : row + 1]
        torch.testing.assert_close(
            positions.embed(vectors_BLD, position_BL)[row], positions.embed(vectors_BLD[row : row + 1], alone_L)[0]
        )
        torch.testing.assert_close(
            rotated(positions, heads_BHLK, position_BL)[row], rotated(positions, heads_BHLK[row : row + 1], alone_L)[0]
        )


@pytest.mark.parametrize("scheme", get_args(PositionScheme))
def test_each_scheme_acts_in_its_own_place_only(scheme: PositionScheme) -> None:
    config = TransformerConfig(d_model=22, num_heads=1, positions=scheme)
    positions = make_positions(config)
    states, heads = torch.randn(3, 5, 22), torch.randn(3, 1, 5, 22)
    acts = {
        "embed": not torch.equal(positions.embed(states, positions_from(7, 5)), states),
        "rotate": not torch.equal(rotated(positions, heads, positions_from(7, 5)), heads),
        "bias": positions.add_bias(Mask()).bias(5, 5, CPU) is not None,
    }
    places = {"sinusoidal": "embed", "learned": "embed", "rotary": "rotate", "alibi": "bias", "relative": "bias"}
    place = places.get(scheme)
    assert acts == {name: name == place for name in acts}
