import pytest
import torch

from lit_transformer.model.dropout import Dropout

RATE = 0.3
# Not a multiple of 4, the number of elements that share a draw of the CPU's generator.
NUM_ELEMENTS = 1_000_003


def test_rate_and_mean_are_right_in_every_lane_and_neighbours_are_independent() -> None:
    output = Dropout(RATE)(torch.ones(NUM_ELEMENTS))
    dropped = output == 0.0
    assert dropped.sum().item() == pytest.approx(RATE * NUM_ELEMENTS, rel=0.01)
    assert output.mean().item() == pytest.approx(1.0, abs=0.005)
    torch.testing.assert_close(output[~dropped].unique(), torch.tensor([1 / (1 - RATE)]), rtol=1e-4, atol=0.0)
    lanes = dropped[: NUM_ELEMENTS // 4 * 4].view(-1, 4).double()
    together = lanes.T @ lanes / len(lanes)
    expected = torch.full((4, 4), RATE**2, dtype=torch.float64).fill_diagonal_(RATE)
    torch.testing.assert_close(together, expected, rtol=0.0, atol=0.005)


def test_gradient_flows_where_elements_are_kept_and_is_scaled_like_them() -> None:
    states = torch.rand(11, 7, 13).add_(1.0).transpose(0, 1).requires_grad_()
    output = Dropout(RATE)(states)
    output.sum().backward()
    assert states.grad is not None
    assert 0 < (states.grad == 0.0).sum() < states.numel()
    torch.testing.assert_close(output, states * states.grad, rtol=0.0, atol=0.0)


def test_randomness_is_a_function_of_the_seed() -> None:
    dropout, states = Dropout(RATE), torch.ones(101)
    first, second = dropout(states), dropout(states)
    torch.manual_seed(0)
    assert torch.equal(dropout(states), first)
    assert not torch.equal(first, second)


def test_it_is_the_identity_in_evaluation_and_at_rate_zero() -> None:
    states = torch.randn(17)
    assert torch.equal(Dropout(RATE).eval()(states), states)
    assert torch.equal(Dropout(0.0)(states), states)
