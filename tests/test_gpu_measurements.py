"""What `experiments/measure/gpu` explores computes what the package computes."""

import pytest
import torch

from experiments.measure.gpu.loss import by_log_sum_exp, chunked_loss, forward_backward, whole_loss
from experiments.measure.gpu.timing import DEVICE

pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="the measurements have their own device")


@pytest.mark.parametrize("variant", [whole_loss, by_log_sum_exp])
def test_variants_of_the_loss_have_its_gradients(variant: object) -> None:
    torch.manual_seed(0)
    states = torch.randn(23, 16, requires_grad=True)
    weight = torch.randn(31, 16).mul_(0.25).requires_grad_()
    target = torch.randint(0, 31, (23,))
    expected = forward_backward(chunked_loss, states, weight, target)
    found = forward_backward(variant, states, weight, target)  # type: ignore[arg-type]
    for mine, theirs in zip(found, expected, strict=True):
        assert float((mine - theirs).norm() / theirs.norm()) < 0.02
