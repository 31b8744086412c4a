from typing import get_args

import pytest
import torch

from lit_transformer.model.attention import KeysValues, SelfAttention, attend, fused_attention
from lit_transformer.model.config import PositionScheme, TransformerConfig
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import make_positions

CPU = torch.device("cpu")
KEYS_BM = torch.tensor([[True, True, True, True, False], [True, True, False, False, False]])


def picture(mask: Mask, length: int, keys: int) -> list[str]:
    """Row by row for all sentences: `#` where a query may attend to a key, `.` where it may not."""
    bias = mask.bias(length, keys, CPU)
    assert bias is not None
    assert bias.dtype == torch.float32
    rows_XM = bias.expand(*torch.broadcast_shapes(bias.shape, (length, keys))).reshape(-1, keys)
    return ["".join("#" if value == 0.0 else "." for value in row) for row in rows_XM.tolist()]


@pytest.mark.parametrize(
    ("mask", "length", "keys", "expected"),
    [
        (Mask(causal=True), 4, 4, ["#...", "##..", "###.", "####"]),
        (Mask(causal=True), 2, 5, ["####.", "#####"]),
        (Mask(keys_BM=KEYS_BM), 2, 5, ["####.", "####.", "##...", "##..."]),
        (
            Mask(causal=True, keys_BM=KEYS_BM),
            5,
            5,
            ["#....", "##...", "###..", "####.", "####.", "#....", "##...", "##...", "##...", "##..."],
        ),
        (Mask(causal=True, keys_BM=KEYS_BM), 2, 5, ["####.", "####.", "##...", "##..."]),
    ],
    ids=["causal", "causal after a cache", "padding", "causal and padding", "both after a cache"],
)
def test_pictures(mask: Mask, length: int, keys: int, expected: list[str]) -> None:
    assert picture(mask, length, keys) == expected


def test_where_everything_is_allowed_there_is_no_tensor() -> None:
    assert Mask().bias(3, 5, CPU) is None
    assert Mask(causal=True).bias(1, 5, CPU) is None, "the last position may attend to all others"


def test_distance_is_added_by_head_and_counted_from_the_end() -> None:
    mask = Mask(causal=True, distance_bias=lambda distance_LM: -torch.stack([distance_LM, 10 * distance_LM]).abs())
    infinity = float("inf")
    bias_HLM = mask.bias(2, 3, CPU)
    assert bias_HLM is not None
    assert bias_HLM.tolist() == [[[-1, 0, -infinity], [-2, -1, 0]], [[-10, 0, -infinity], [-20, -10, 0]]]


def test_rows_of_a_batch_are_taken_with_their_padding() -> None:
    taken = Mask(keys_BM=KEYS_BM).take(torch.tensor([1]))
    assert picture(taken, 1, 5) == ["##..."]
    assert Mask(causal=True).take(torch.tensor([1, 0])).only_causal


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("scheme", get_args(PositionScheme))
def test_in_chunks_and_step_by_step_it_is_as_at_once(scheme: PositionScheme, padded: bool) -> None:
    batch, length, d_model = 2, 5, 22
    config = TransformerConfig(d_model=d_model, num_heads=1, positions=scheme)
    positions, attention = make_positions(config), SelfAttention(config)
    keys_BM = torch.tensor(KEYS_BM.tolist()) if padded else None
    mask = positions.mask(causal=True, keys_BM=keys_BM)
    states_BLD = torch.randn(batch, length, d_model)
    query, key, value = attention._project(states_BLD, positions, start=0)
    expected = attend(query, key, value, mask)
    for begin, end in ((0, 2), (2, 3), (3, 5), (1, 5), (4, 5)):
        # Keys that come later are not there yet.
        part = positions.mask(causal=True, keys_BM=None if keys_BM is None else keys_BM[:, :end])
        for path in (attend, fused_attention):
            output = path(query[:, :, begin:end], key[:, :, :end], value[:, :, :end], part)
            torch.testing.assert_close(output, expected[:, :, begin:end], rtol=0.0, atol=1e-5)
    if not padded:
        past = KeysValues(key[:, :, :0], value[:, :, :0])
        for place in range(length):
            step = positions.mask(causal=True)
            output, past = attention.step(states_BLD[:, place : place + 1], past, step, positions, attend)
            whole = attention(states_BLD, mask, positions, attend)[:, place : place + 1]
            torch.testing.assert_close(output, whole, rtol=0.0, atol=1e-5)
