"""What BERT, BART and T5 have in common: they restore tokens that they cannot read.

Legend: P target positions (batch x length), D d_model.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import MeanMetric, MetricCollection

from lit_transformer.batch import PAD_ID, RestoredBatch
from lit_transformer.data.objectives import Objective
from lit_transformer.decoding.devices import enough_memory
from lit_transformer.errors import UserError
from lit_transformer.training.descendant import LitDescendant
from lit_transformer.training.loss import LossSums
from lit_transformer.training.metrics import PREFIX, TEST_PREFIX


class LitRestorer(LitDescendant):
    """Measures the share of hidden tokens that are restored. A subclass has an objective, and defines `predictions`."""

    objective: Objective
    """What is hidden. The data follow it."""
    has_decoder: ClassVar[bool] = False
    """Whether a token is restored with those before it, also hidden ones (teacher forcing)."""
    test_scores: MetricCollection

    def measure_accuracy(self) -> None:
        """Add `val/accuracy` and `test/accuracy`. A subclass calls it once."""
        self.val_scores = MetricCollection({"accuracy": MeanMetric()}, prefix=PREFIX)
        self.test_scores = MetricCollection({"accuracy": MeanMetric()}, prefix=TEST_PREFIX)

    def predictions(self, batch: Any) -> tuple[Tensor, Tensor]:
        """Return the states from which tokens are predicted, of any shape that ends in D, and these tokens.

        `PAD_ID` stands where nothing is predicted.
        """
        raise NotImplementedError

    def loss_sums(self, batch: Any) -> LossSums:
        """Return the losses of a micro-batch, summed over the tokens that are predicted."""
        states, target = self.predictions(batch)
        predicted = (target != PAD_ID).nonzero(as_tuple=True)
        return self.token_loss(states[predicted], target[predicted])

    def are_restored(self, batch: RestoredBatch) -> Tensor:
        """Return whether each hidden token is the most probable one, given those before it if there is a decoder."""
        states, target = self.predictions(batch.batch)
        return self._are_most_probable(states[batch.restored], target[batch.restored])

    def validation_step(self, batch: RestoredBatch, batch_idx: int) -> None:  # type: ignore[override] # with places
        """Add a batch to the validation loss and the accuracy."""
        self._measure(batch, self.val_losses, self.val_scores)

    def test_step(self, batch: RestoredBatch, batch_idx: int) -> None:  # type: ignore[override] # with places
        """Add a batch to the test's loss, perplexity and accuracy."""
        self._measure(batch, self.test_losses, self.test_scores)

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.log_dict(self.test_scores)

    def _measure(self, batch: RestoredBatch, losses: MetricCollection, scores: MetricCollection) -> None:
        if not isinstance(batch, RestoredBatch):
            raise UserError(f"the loader gives {type(batch).__name__}, but {type(self).__name__} needs RestoredBatch")
        with enough_memory("lower validation_batch_tokens"):
            states, target = self.predictions(batch.batch)
            if batch.batch.num_target_tokens:  # a rank may get a batch without rows
                losses.update(self.token_loss(states, target), batch.batch.num_target_tokens)
            # Also without rows: a rank that had never updated its score would not take part in its mean over the ranks.
            restored = states[batch.restored], target[batch.restored]
            scores.update(self._are_most_probable(*restored).float())

    def _are_most_probable(self, states_PD: Tensor, target_P: Tensor) -> Tensor:
        model: Any = self.transformer
        with torch.no_grad():
            return model.output(states_PD, model.embedding.weight).argmax(dim=-1) == target_P
