"""The loaders of validation, test and prediction for sentence pairs."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from lit_transformer.batch import TextBatch
from lit_transformer.data.batching import batches_by_length
from lit_transformer.data.following import Followed
from lit_transformer.data.loaders import LoadedData
from lit_transformer.data.pairs import PairAssembler
from lit_transformer.data.splits import Splits
from lit_transformer.data.store import TokenStore
from lit_transformer.data.text import Text
from lit_transformer.data.validation import ValidationBatches, batches_in_order, text_filler, validation_batches
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError


class LoadedPairs(LoadedData):
    """Makes the batches of sentence pairs that a subclass prepares."""

    corpus: str
    followed: Followed
    """What the data take from the model if it is not given."""
    # By `prepare_data`:
    splits: Splits
    vocabularies: Vocabularies
    # By `setup`:
    store: TokenStore
    num_cut: int
    """Validation sentences that are cut."""

    def assembler(self, *, count: int = 0, margin: float = 1.0) -> PairAssembler:
        """Return what makes micro-batches of training pairs. After `setup`."""
        return PairAssembler(self.store, self.plan, count, margin)

    def test_dataloader(self) -> ValidationBatches[Any]:
        """Return this rank's part of the split `test`. No sentence is on two ranks."""
        batches, _ = self._batches(self._test_text())
        return self._of_rank(batches, self.trainer.limit_test_batches if self.trainer else 1.0)

    def predict_dataloader(self) -> ValidationBatches[Any]:
        """Return the split `test` in its order. If there are several ranks, a rank gets every world_size-th batch."""
        batches, _ = self._batches(self._test_text(), cut=batches_in_order)
        return self._of_rank(batches, limit=1.0)  # the trainer takes the first ones

    def _validation_batches(self) -> list[TextBatch]:
        batches, self.num_cut = self._batches(self.splits.valid)
        return batches

    @property
    def _filler(self) -> TextBatch:
        return text_filler()

    def _batches(
        self, text: Text, cut: Callable[[Sequence[int], int], Iterator[list[int]]] = batches_by_length
    ) -> tuple[list[TextBatch], int]:
        pairs = text.load()
        return validation_batches(
            pairs["source"][:],
            pairs["target"][:],
            self.vocabularies,
            self._validation_tokens,
            longest=self.followed.max_positions,
            cut=cut,
        )

    def _test_text(self) -> Text:
        if self.splits.test is None:
            raise UserError(f"corpus {self.corpus} has no split test: add one, or take trainer.validate")
        return self.splits.test
