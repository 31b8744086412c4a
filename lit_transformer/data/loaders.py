"""The loaders of prepared data: for one device, or for the ranks of a trainer."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import lightning as L

from lit_transformer.batch import TextBatch
from lit_transformer.data.accumulation import step_counts
from lit_transformer.data.batching import BatchPlan, batches_by_length
from lit_transformer.data.cache import LateCheck
from lit_transformer.data.epochs import Epochs, whole_epochs
from lit_transformer.data.following import Followed
from lit_transformer.data.loader import TimedLoader
from lit_transformer.data.splits import Splits
from lit_transformer.data.store import TokenStore
from lit_transformer.data.stream import TrainingStream
from lit_transformer.data.text import Text
from lit_transformer.data.validation import ValidationBatches, batches_in_order, validation_batches
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError

VALIDATION_BATCH_TOKENS = {"CPU": 2048, "GPU": 8192}
"""Padded tokens on each side of a validation batch. On an H100, decoding is 2.5 times as fast with 8,192 as with 2,048
(docs/gpu.md), and they fit beside what training keeps there."""


class LoadedData(L.LightningDataModule):
    """Makes the batches of data that a subclass prepares."""

    corpus: str
    max_tokens_per_device: int | Literal["auto"]
    validation_batch_tokens: int | None
    num_workers: int | None
    followed: Followed
    """What the data take from the model if it is not given."""
    # By `prepare_data`:
    splits: Splits
    vocabularies: Vocabularies
    _late_check: LateCheck | None
    # By `setup`:
    store: TokenStore
    plan: BatchPlan
    _validation: list[TextBatch]

    def __init__(self) -> None:
        super().__init__()
        self._loader: TimedLoader | None = None

    if not TYPE_CHECKING:  # type checkers report names that are never there

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"the data have no {name}: call prepare_data() and setup('fit') first")

    @property
    def epochs(self) -> Epochs:
        """The epochs of the run: those of the plan, or what the trainer's limits leave of them. After `setup`."""
        trainer = self._fitting_trainer
        return whole_epochs(self.plan.num_batches) if trainer is None else step_counts(trainer).epochs

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    @property
    def _fitting_trainer(self) -> L.Trainer | None:
        """The trainer if it trains on the plan, or None if it only tests, for example."""
        is_fitting = self.trainer is not None and step_counts(self.trainer).plan is self.plan
        return self.trainer if is_fitting else None

    def train_dataloader(self) -> TimedLoader:
        """Return this rank's micro-batches, from the step that the trainer has reached to the end of its epoch."""
        trainer, epochs = self._fitting_trainer, self.epochs
        assert self._late_check is not None, "made before the plan"
        if self._loader is not None and trainer is not None and trainer.train_dataloader is not None:
            return self._loader  # `reload_dataloaders_every_n_epochs` asks again
        stream = TrainingStream(
            self.plan,
            self.store,
            epochs=epochs,
            accumulation=trainer.accumulate_grad_batches if trainer else self._accumulation(world_size=1),
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        workers = int(self._on_gpu) if self.num_workers is None else self.num_workers
        self._late_check.start()
        self.teardown("fit")
        self._loader = TimedLoader(
            stream,
            steps=lambda: (
                epochs.steps_from(trainer.global_step, ended=trainer.current_epoch) if trainer else range(epochs.steps)
            ),
            num_workers=workers,
            pin_memory=self._on_gpu,
            check=self._late_check.raise_if_damaged,
        )
        return self._loader

    def val_dataloader(self) -> ValidationBatches:
        """Return this rank's part of the validation set. No sentence is on two ranks."""
        return self._of_rank(self._validation, self.trainer.limit_val_batches if self.trainer else 1.0)

    def test_dataloader(self) -> ValidationBatches:
        """Return this rank's part of the split `test`. No sentence is on two ranks."""
        batches, _ = self._batches(self._test_text())
        return self._of_rank(batches, self.trainer.limit_test_batches if self.trainer else 1.0)

    def predict_dataloader(self) -> ValidationBatches:
        """Return the split `test` in its order. If there are several ranks, a rank gets every world_size-th batch."""
        batches, _ = self._batches(self._test_text(), cut=batches_in_order)
        return self._of_rank(batches, limit=1.0)  # the trainer takes the first ones

    def teardown(self, stage: str) -> None:
        """End the worker processes."""
        if self._loader is not None:
            self._loader.close()

    def _batches(
        self, text: Text, cut: Callable[[Sequence[int], int], Iterator[list[int]]] = batches_by_length
    ) -> tuple[list[TextBatch], int]:
        pairs = text.load()
        return validation_batches(
            pairs["source"][:],
            pairs["target"][:],
            self.vocabularies,
            self.validation_batch_tokens or VALIDATION_BATCH_TOKENS["GPU" if self._on_gpu else "CPU"],
            longest=self.followed.max_positions,
            cut=cut,
        )

    def _test_text(self) -> Text:
        if self.splits.test is None:
            raise UserError(f"corpus {self.corpus} has no split test: add one, or take trainer.validate")
        return self.splits.test

    def _of_rank(self, batches: list[TextBatch], limit: int | float) -> ValidationBatches:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return ValidationBatches(batches, rank, world_size, limit)

    def _accumulation(self, world_size: int) -> int:
        """Return the micro-batches per step. For `auto`, a callback finds what fits later."""
        limit = self.max_tokens_per_device
        return 1 if limit == "auto" else self.plan.accumulation(max_tokens_per_device=limit, world_size=world_size)
