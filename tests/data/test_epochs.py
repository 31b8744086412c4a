"""Epochs of equal length, limited or not."""

import pytest

from lit_transformer.data.epochs import limited_epochs, whole_epochs
from lit_transformer.errors import UserError


@pytest.mark.parametrize(
    ("limit", "steps"), [(1.0, 40), (0.5, 20), (0.999, 39), (1, 1), (7, 7), (40, 40), (99, 40), (0, 40), (0.0, 40)]
)
def test_a_limit_is_a_number_of_steps_or_a_share(limit: float, steps: int) -> None:
    """0 is no limit: for `limit_train_batches`, Lightning then trains nothing."""
    assert limited_epochs(40, limit, name="limit_train_batches").steps == steps


def test_a_share_of_less_than_a_step() -> None:
    with pytest.raises(UserError, match=r"^overfit_batches is 0\.01\b.*\b40\b.*\b0\.025\b"):
        limited_epochs(40, 0.01, name="overfit_batches")


def test_the_steps_that_are_left_of_an_epoch() -> None:
    epochs = whole_epochs(5)
    assert epochs.steps_from(0, ended=0) == range(5)
    assert epochs.steps_from(7, ended=1) == range(7, 10)
    assert epochs.steps_from(10, ended=2) == range(10, 15)
    assert not epochs.steps_from(10, ended=1), "its last step is done, and the trainer has not ended it"
