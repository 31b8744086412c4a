"""What validation measures. The code that prints and logs scores iterates over these collections."""

import math
from typing import Literal

from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection

from lit_transformer.training.loss import LossSums

PREFIX = "val/"
"""Begins the names of all curves of validation."""
SELECTION = f"{PREFIX}selection"
"""The curve that selects the best checkpoint."""
TEST_PREFIX = "test/"
"""Begins the names of all scores of a test."""


def loss_metrics(prefix: str = PREFIX) -> MetricCollection:
    """The validation loss, label smoothing included, and the perplexity, without it."""
    return MetricCollection(
        {"loss": TokenMean("smoothed"), "perplexity": Perplexity("nll")}, prefix=prefix, compute_groups=False
    )


def selection_score(*, bleu: float, loss: float) -> float:
    """The value by which the best checkpoint is chosen: the higher, the better.

    It is BLEU if that is at least 1. A lower BLEU is noise, so it is exp(-loss) then, which is always below 1.

    Args:
        bleu: Validation BLEU, 0 to 100.
        loss: Validation loss per target token, in nats.
    """
    return bleu if bleu >= 1.0 else math.exp(-loss)


class TokenMean(MeanMetric):
    """The mean of a loss per target token, over batches and ranks.

    Args:
        field: Which of the `LossSums`.
    """

    def __init__(self, field: Literal["smoothed", "nll"]) -> None:
        # By default torchmetrics leaves NaN out. A run that diverges must show it.
        super().__init__(nan_strategy=math.nan)
        self._field = field

    def update(self, sums: LossSums, num_tokens: int) -> None:  # type: ignore[override] # of a mean of plain values
        """Add a batch."""
        super().update(getattr(sums, self._field) / num_tokens, weight=num_tokens)


class Perplexity(TokenMean):
    """The exponential of the mean loss per target token."""

    def compute(self) -> Tensor:
        """Return the perplexity of everything so far."""
        return super().compute().exp()
