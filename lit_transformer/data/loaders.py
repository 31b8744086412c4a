"""Data modules of all tasks: when data are prepared, and the loaders of training and validation for a trainer's ranks.

A subclass prepares the data and plans the steps.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import lightning as L
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn

from lit_transformer.data.accumulation import step_counts
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.cache import LateCheck
from lit_transformer.data.epochs import Epochs, whole_epochs
from lit_transformer.data.loader import TimedLoader
from lit_transformer.data.stream import Assembler, TrainingStream
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.validation import ValidationBatches
from lit_transformer.errors import UserError
from lit_transformer.notes import counted

VALIDATION_BATCH_TOKENS = {"CPU": 2048, "GPU": 8192}
"""Padded tokens on each side of a validation batch. On an H100, decoding is 2.5 times as fast with 8,192 as with 2,048
(docs/gpu.md), and they fit beside what training keeps there."""


class LoadedData(L.LightningDataModule):
    """Makes the batches of data that a subclass prepares. What callbacks and commands ask of data is here.

    A subclass has the arguments `max_tokens_per_device`, `validation_batch_tokens` and `num_workers`. It defines all
    methods that raise NotImplementedError here.
    """

    row: ClassVar[str] = "pair"
    """What a row of the plan is."""
    unit: ClassVar[str] = "token"
    """What its length counts."""
    predicted: ClassVar[str] = "target tokens"
    """What the target tokens of a batch are."""
    step_setting: ClassVar[str] = "tokens_per_batch"
    """The argument that sets the size of a step."""
    device_setting: ClassVar[str] = "max_tokens_per_device"
    """The argument that sets `max_tokens_per_device`."""
    max_tokens_per_device: int | Literal["auto"]
    validation_batch_tokens: int | None
    num_workers: int | None
    # By `setup`:
    plan: BatchPlan
    _validation: list[Any]

    def __init__(self) -> None:
        super().__init__()
        self._loader: TimedLoader | None = None
        self._late_check: LateCheck | None = None
        """Made with the training data."""
        self._has_text = self._has_validation = self._has_plan = False

    if not TYPE_CHECKING:  # type checkers report names that are never there

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(f"the data have no {name}: call prepare_data() and setup('fit') first")

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        weights_only: bool | None = True,
        **changes: Any,
    ) -> Self:
        """Make the data of a run anew, with the settings in its checkpoint.

        Args:
            checkpoint_path: A checkpoint.
            map_location: Lightning's, like the next two.
            hparams_file: A YAML file with other settings.
            weights_only: Whether only plain data are read.
            changes: Arguments to change.

        Raises:
            UserError: An earlier version wrote the checkpoint, without these settings.
        """
        content = torch.load(checkpoint_path, map_location="cpu", weights_only=True, mmap=True)
        if cls.CHECKPOINT_HYPER_PARAMS_KEY not in content:
            raise UserError(
                f"{checkpoint_path} has no settings of the data: give {cls.__name__} those of the run's config.yaml"
            )
        return super().load_from_checkpoint(checkpoint_path, map_location, hparams_file, weights_only, **changes)

    # What a subclass defines.

    def assembler(self, *, count: int = 0, margin: float = 1.0) -> Assembler:
        """Return what makes micro-batches from training rows. After `setup`.

        Args:
            count: Micro-batches of a step on all devices. 0 if the batches are none of the plan's.
            margin: A batch has more rows than one of the plan's by this factor.
        """
        raise NotImplementedError

    @property
    def length_setting(self) -> str:
        """The argument that limits the size of a row."""
        return "max_length"

    @property
    def title(self) -> str:
        """What the data are, in a few words."""
        raise NotImplementedError

    @property
    def test_set(self) -> tuple[str, str | None] | None:
        """The corpus to test on, and its split if it has some, or None if nothing is left. After `prepare_data`."""
        return None

    @property
    def tokenizers(self) -> tuple[Tokenizer, ...]:
        """The vocabularies, the target's first. A shared one comes once. After `prepare_data`."""
        return ()

    @property
    def counts(self) -> list[str]:
        """What the data have, one fact per line. After `prepare_data`."""
        raise NotImplementedError

    @property
    def warnings(self) -> list[str]:
        """What is wrong with the data, each with its remedy. After `setup`."""
        raise NotImplementedError

    @property
    def fingerprint(self) -> str:
        """Identifies the training rows and their order, which do not depend on the devices. After `prepare_data`."""
        raise NotImplementedError

    def describe_step(self, step: int) -> str:
        """Describe the rows of an optimizer step (counted from 0), for a person who looks for a mistake."""
        raise NotImplementedError

    @property
    def summary(self) -> str:
        """The counts, and the steps of an epoch. After `setup`."""
        steps = counted(self.epochs.steps, "optimizer step")
        limit = f", of {self.plan.num_batches:,}" if self.epochs.steps < self.plan.num_batches else ""
        epoch = f"{steps} of {counted(self.plan.tokens_per_batch, self.unit)} per epoch{limit}"
        return "\n".join([*self.counts, epoch])

    def prepare_data(self) -> None:
        """Prepare everything that a process can find in the cache, or find it there.

        If another process is filling the cache, this one waits. A second call does nothing, unless the cache was found
        to be damaged since the first, or the trainer has another module. A trainer that validates, tests or predicts
        needs no training data.

        Raises:
            UserError: The data cannot be read or do not fit the settings.
        """
        self._prepare(for_training=self.trainer is None or self.trainer.state.fn in (None, TrainerFn.FITTING))

    def setup(self, stage: str) -> None:
        """Make the batches of validation. For `fit`, open the cache, plan the steps, and tell the trainer how many
        micro-batches make one.
        """
        self._prepare(for_training=stage == "fit")
        if not self._has_validation:
            self._validation = self._validation_batches()
            self._has_validation = True
        if stage != "fit":
            return
        if not self._has_plan:
            self.plan = self._make_plan()
            self._has_plan = True
        if self.trainer is not None and (counts := step_counts(self.trainer)).plan is not self.plan:
            counts.set_plan(self.plan)
            counts.accumulate(self.trainer, self._accumulation(self.trainer.world_size))

    def _follow_module(self) -> bool:
        """Take from the trainer's module what was not given. Return whether something has changed."""
        raise NotImplementedError

    def _find_text(self) -> None:
        """Find what training, validation and test have in common, such as the vocabulary."""
        raise NotImplementedError

    def _tokenize(self) -> LateCheck:
        """Find the training data, or put them into the cache. Return the check of their file."""
        raise NotImplementedError

    def _validation_batches(self) -> list[Any]:
        """Return the batches of the whole validation set."""
        raise NotImplementedError

    def _make_plan(self) -> BatchPlan:
        """Open the training data and plan the steps."""
        raise NotImplementedError

    @property
    def _filler(self) -> Any:
        """A validation batch without a token to predict, for a rank that has no other."""
        return self.assembler().batch(np.array([], dtype=np.int64))

    def _prepare(self, *, for_training: bool) -> None:
        is_damaged = self._late_check is not None and self._late_check.damaged
        if self._follow_module() or is_damaged:
            self._has_text = False
        if not self._has_text:
            self._find_text()
            self._late_check, self._has_text, self._has_validation, self._has_plan = None, True, False, False
        if for_training and self._late_check is None:
            self._late_check = self._tokenize()

    # For the trainer.

    @property
    def epochs(self) -> Epochs:
        """The epochs of the run: those of the plan, or what the trainer's limits leave of them. After `setup`."""
        trainer = self._fitting_trainer
        return whole_epochs(self.plan.num_batches) if trainer is None else step_counts(trainer).epochs

    @property
    def _model(self) -> L.LightningModule | None:
        return None if self.trainer is None else self.trainer.lightning_module

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    @property
    def _fitting_trainer(self) -> L.Trainer | None:
        """The trainer if it trains on the plan, or None if it only tests, for example."""
        is_fitting = self.trainer is not None and step_counts(self.trainer).plan is self.plan
        return self.trainer if is_fitting else None

    @property
    def _validation_tokens(self) -> int:
        """Padded tokens on each side of a validation batch."""
        return self.validation_batch_tokens or VALIDATION_BATCH_TOKENS["GPU" if self._on_gpu else "CPU"]

    def train_dataloader(self) -> TimedLoader:
        """Return this rank's micro-batches, from the step that the trainer has reached to the end of its epoch."""
        trainer, epochs = self._fitting_trainer, self.epochs
        assert self._late_check is not None, "made before the plan"
        if self._loader is not None and trainer is not None and trainer.train_dataloader is not None:
            return self._loader  # `reload_dataloaders_every_n_epochs` asks again
        accumulation = trainer.accumulate_grad_batches if trainer else self._accumulation(world_size=1)
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        stream = TrainingStream(
            self.plan,
            self.assembler(count=accumulation * world_size),
            epochs=epochs,
            accumulation=accumulation,
            rank=rank,
            world_size=world_size,
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

    def val_dataloader(self) -> ValidationBatches[Any]:
        """Return this rank's part of the validation set. No row is on two ranks."""
        return self._of_rank(self._validation, self.trainer.limit_val_batches if self.trainer else 1.0)

    def teardown(self, stage: str) -> None:
        """End the worker processes."""
        if self._loader is not None:
            self._loader.close()

    def _of_rank(self, batches: list[Any], limit: int | float) -> ValidationBatches[Any]:
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return ValidationBatches(batches, rank, world_size, limit, filler=lambda: self._filler)

    def _accumulation(self, world_size: int) -> int:
        """Return the micro-batches per step. For `auto`, a callback finds what fits later."""
        limit = self.max_tokens_per_device
        return 1 if limit == "auto" else self.plan.accumulation(max_tokens_per_device=limit, world_size=world_size)


def check_settings(character_coverage: float, *limits: tuple[str, int | float | str | None, int]) -> None:
    """Raise UserError unless the settings of text are possible.

    Args:
        character_coverage: The setting of that name.
        limits: As in `check_least`.
    """
    check_least(*limits)
    if not 0.98 <= character_coverage <= 1.0:  # SentencePiece's own limits
        raise UserError(f"character_coverage is {character_coverage}: it must be from 0.98 to 1")


def check_least(*limits: tuple[str, int | float | str | None, int]) -> None:
    """Raise UserError if a setting is too small.

    Args:
        limits: The name, the value and the least value of settings. None and `auto` are possible.
    """
    for name, value, least in limits:
        if isinstance(value, int | float) and value < least:
            raise UserError(f"{name} is {value}: it must be at least {least}")
