import pytest
import torch

from lit_transformer.decoding.scoring import topk

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize("width", [8 * 4 * 256 - 1, 8 * 4 * 256, 11_781, 37_000 * 4 + 3])
def test_topk_in_two_stages_equals_that_in_one(width: int) -> None:
    score_BX = torch.randn(5, width)
    score_BX[1] = score_BX[1].sort(descending=True).values  # all in the first block
    score_BX[2] = score_BX[2].sort().values  # all in the last one, which is shorter
    score_BX[3] = -torch.inf
    score_BX[4, :-1] = -torch.inf
    value_BC, index_BC = topk(score_BX, 8)
    assert torch.equal(value_BC, score_BX.topk(8, dim=1).values)
    assert index_BC.max() < width, "also where there is nothing left to choose"
    finite_BC = value_BC.isfinite()
    assert torch.equal(score_BX.gather(1, index_BC)[finite_BC], value_BC[finite_BC])
    assert all(len(row.unique()) == 8 for row in index_BC[:3])
