from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lit_transformer.model.masks import Mask

CPU = torch.device("cpu")
KEYS_BM = torch.tensor([[True, True, True, True, False], [True, True, False, False, False]])
SEGMENTS_BM = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 2, 2]])


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
        pytest.param(Mask(causal=True), 4, 4, ["#...", "##..", "###.", "####"], id="causal"),
        pytest.param(Mask(causal=True), 2, 5, ["####.", "#####"], id="causal after a cache"),
        pytest.param(Mask(window=2), 4, 4, ["##..", "###.", ".###", "..##"], id="window"),
        pytest.param(Mask(causal=True, window=2), 4, 4, ["#...", "##..", ".##.", "..##"], id="causal window"),
        pytest.param(Mask(causal=True, window=3), 2, 5, [".###.", "..###"], id="causal window after a cache"),
        pytest.param(Mask(causal=True, window=3), 1, 5, ["..###"], id="causal window in one step"),
        pytest.param(
            Mask(causal=True, query_L=torch.tensor([1, 2])), 2, 5, ["##...", "###.."], id="causal before free places"
        ),
        pytest.param(Mask(causal=True, query_L=torch.tensor([0])), 1, 5, ["#...."], id="one step before free places"),
        pytest.param(
            Mask(causal=True, window=2, query_L=torch.tensor([2])), 1, 5, [".##.."], id="window before free places"
        ),
        pytest.param(
            Mask(causal=True, segments_BM=SEGMENTS_BM, query_L=torch.tensor([3])),
            1,
            5,
            ["..##.", "...#."],
            id="packed rows before free places",
        ),
        pytest.param(Mask(keys_BM=KEYS_BM), 2, 5, ["####.", "####.", "##...", "##..."], id="padding"),
        pytest.param(
            Mask(causal=True, keys_BM=KEYS_BM),
            5,
            5,
            ["#....", "##...", "###..", "####.", "#####", "#....", "##...", "###..", "##.#.", "##..#"],
            id="causal and padding, which attends to itself",
        ),
        pytest.param(
            Mask(causal=True, keys_BM=KEYS_BM), 2, 5, ["####.", "#####", "##.#.", "##..#"], id="both after a cache"
        ),
        pytest.param(
            Mask(segments_BM=SEGMENTS_BM),
            5,
            5,
            ["##...", "##...", "..###", "..###", "..###", "#....", ".##..", ".##..", "...##", "...##"],
            id="packed rows",
        ),
        pytest.param(
            Mask(causal=True, segments_BM=SEGMENTS_BM),
            5,
            5,
            ["#....", "##...", "..#..", "..##.", "..###", "#....", ".#...", ".##..", "...#.", "...##"],
            id="causal packed rows",
        ),
        pytest.param(
            Mask(causal=True, segments_BM=SEGMENTS_BM),
            2,
            5,
            ["..##.", "..###", "...#.", "...##"],
            id="causal packed rows after a cache",
        ),
    ],
)
def test_pictures(mask: Mask, length: int, keys: int, expected: list[str]) -> None:
    assert picture(mask, length, keys) == expected


@pytest.mark.parametrize(
    ("mask", "length"), [(Mask(), 3), (Mask(window=5), 3), (Mask(causal=True), 1), (Mask(causal=True, window=5), 1)]
)
def test_without_a_condition_there_is_no_tensor(mask: Mask, length: int) -> None:
    """The last position may attend to all others, and a window as wide as the keys limits nothing."""
    assert mask.bias(length, 5, CPU) is None


def by_head(distance_LM: Tensor) -> Tensor:
    return -torch.stack([distance_LM, 10 * distance_LM]).abs()


def test_distance_is_added_by_head_and_counted_from_the_end() -> None:
    infinity = float("inf")
    bias_HLM = Mask(causal=True, distance_bias=by_head).bias(2, 3, CPU)
    assert bias_HLM is not None
    assert bias_HLM.tolist() == [[[-1, 0, -infinity], [-2, -1, 0]], [[-10, 0, -infinity], [-20, -10, 0]]]


@pytest.mark.parametrize(
    ("changes", "only_causal"),
    [
        ({}, True),
        ({"causal": False}, False),
        ({"window": 2}, False),
        ({"keys_BM": KEYS_BM}, False),
        ({"segments_BM": SEGMENTS_BM}, False),
        ({"distance_bias": by_head}, False),
    ],
)
def test_only_causal_is_causal_and_nothing_else(
    changes: dict[str, bool | int | Tensor | Callable[[Tensor], Tensor]], only_causal: bool
) -> None:
    assert Mask(**{"causal": True} | changes).only_causal == only_causal  # type: ignore[arg-type]


def test_rows_of_a_batch_are_taken_with_their_padding_and_segments() -> None:
    row_B = torch.tensor([1])
    assert picture(Mask(keys_BM=KEYS_BM).take(row_B), 1, 5) == ["##..."]
    assert picture(Mask(segments_BM=SEGMENTS_BM).take(row_B), 1, 5) == ["...##"]
    assert picture(Mask(causal=True, window=4, keys_BM=KEYS_BM).take(row_B), 2, 5) == ["##.#.", ".#..#"]
    assert Mask(causal=True).take(torch.tensor([1, 0])).only_causal
