"""What the modules of all descendants have in common: GPT, BERT, BART, T5 and ViT. It knows neither corpora nor runs.

Legend: P target positions (batch x length), D d_model, V vocabulary.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from lit_transformer.batch import PAD_ID, AnyBatch
from lit_transformer.checkpoints.descendants import descendant_entry, empty_descendant
from lit_transformer.checkpoints.format import (
    MODEL_ENTRY,
    VOCABULARY_ENTRIES,
    WEIGHTS_ENTRY,
    unwrapped,
    upgrade_checkpoint,
    wrapped,
)
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.devices import enough_memory
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.loading import check_module, large_models_refused
from lit_transformer.training.loss import LossSums, smoothed_cross_entropy
from lit_transformer.training.metrics import TEST_PREFIX, loss_metrics
from lit_transformer.training.module import LitModel
from lit_transformer.training.schedule import ScheduleName


class LitDescendant(LitModel):
    """The paper's training recipe (section 5) for another model. A subclass defines `loss_sums` and `training_flops`.

    Args:
        build: The class of the model.
        config: The architecture.
        arguments: Its other arguments, such as `vocab_size`.
        label_smoothing: Epsilon of section 5.4.
        warmup_steps: As in `LitModel`, like all others.
        learning_rate_scale: Factor.
        learning_rate: Peak rate.
        optimizer: Optimizer.
        schedule: Schedule.
        seed: Seed of dropout.
    """

    kind: ClassVar[str]
    batch_type: ClassVar[type]
    """The batches that the model takes."""

    def __init__(
        self,
        build: Callable[..., nn.Module],
        config: TransformerConfig,
        arguments: Mapping[str, int],
        *,
        label_smoothing: float,
        warmup_steps: int,
        learning_rate_scale: float,
        learning_rate: float | None,
        optimizer: OptimizerCallable | None,
        schedule: ScheduleName | LRSchedulerCallable,
        seed: int,
    ) -> None:
        super().__init__(
            d_model=config.d_model,
            warmup_steps=warmup_steps,
            learning_rate_scale=learning_rate_scale,
            seed=seed,
            optimizer=optimizer,
            learning_rate=learning_rate,
            schedule=schedule,
        )
        self.vocab_size, self.max_positions = arguments.get("vocab_size"), config.longest
        check_module(label_smoothing=label_smoothing, vocab_size=self.vocab_size)
        with large_models_refused():
            self.transformer = build(config, **arguments)
        # Plain data: an optimizer or a schedule that is a function is left out.
        functions = [name for name, value in (("optimizer", optimizer), ("schedule", schedule)) if callable(value)]
        self.save_hyperparameters(ignore=["transformer", "build", "config", "arguments", *functions])
        self.save_hyperparameters({"transformer": asdict(config)})
        self.arguments = dict(arguments)
        self.label_smoothing = label_smoothing
        self.test_losses = loss_metrics(TEST_PREFIX)
        self.tokenizer: Tokenizer | None = None
        """The one that the model is trained with: the datamodule's, or that of the checkpoint it was read from."""
        self.classes: tuple[str, ...] = ()
        """The names of the classes of images, from the same place."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the logits of the model."""
        logits: Tensor = self.transformer(*inputs)
        return logits

    def token_loss(self, states_PD: Tensor, target_P: Tensor) -> LossSums:
        """Return the loss of predicting tokens from states, through the output of the model.

        Args:
            states_PD: The states. They may also be of the shape B x L x D.
            target_P: What is predicted, in the same order. `PAD_ID` where nothing is.
        """
        model: Any = self.transformer
        states_PD, weight_VD = model.output.factors(states_PD.flatten(0, -2), model.embedding.weight)
        return smoothed_cross_entropy(
            states_PD, weight_VD, target_P.flatten(), pad_id=PAD_ID, epsilon=self.label_smoothing
        )

    def without_memory(self) -> nn.Module:
        return empty_descendant(self._entry(0), num_weights=self.config.num_layers, path=Path())

    def setup(self, stage: str) -> None:
        """Take the vocabulary from the datamodule.

        Raises:
            UserError: It has another size, or is not the one that the model was trained with.
        """
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined] # set, but not declared
        self.classes = tuple(getattr(data, "classes", self.classes))
        tokenizer = getattr(data, "tokenizer", None)
        if not isinstance(tokenizer, Tokenizer):  # batches may come from elsewhere
            return
        if tokenizer.vocab_size != self.vocab_size:
            raise UserError(
                f"the vocabulary of the data has {tokenizer.vocab_size} tokens, but the model has vocab_size "
                f"{self.vocab_size}: give both the same"
            )
        if self.tokenizer is not None and self.tokenizer.model_bytes != tokenizer.model_bytes:
            raise UserError(
                "the data have another vocabulary than the one that the model was trained with: leave out tokenizer, "
                "or make a new model"
            )
        self.tokenizer = tokenizer

    def training_step(self, batch: AnyBatch, batch_idx: int) -> Tensor:
        """Return the micro-batch's share of the step's mean loss per target token."""
        return super().training_step(self._checked(batch), batch_idx)

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> None:
        """Add a batch to the validation loss.

        Raises:
            UserError: There is not enough memory.
        """
        with enough_memory("lower validation_batch_tokens"):
            super().validation_step(self._checked(batch), batch_idx)

    def test_step(self, batch: AnyBatch, batch_idx: int) -> None:
        """Add a batch to the test's loss and perplexity."""
        with enough_memory("lower validation_batch_tokens"):
            sums = self.loss_sums(self._checked(batch))
            if batch.num_target_tokens:
                self.test_losses.update(sums, batch.num_target_tokens)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.test_losses)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint a complete model."""
        checkpoint[MODEL_ENTRY] = self._entry(self.trainer.global_step)
        checkpoint[WEIGHTS_ENTRY] = unwrapped(checkpoint[WEIGHTS_ENTRY])
        super().on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        upgrade_checkpoint(checkpoint)
        super().on_load_checkpoint(checkpoint)
        entry = checkpoint[MODEL_ENTRY]
        if self.tokenizer is None and VOCABULARY_ENTRIES[0] in entry:
            self.tokenizer = Tokenizer(entry[VOCABULARY_ENTRIES[0]])
        self.classes = self.classes or tuple(entry["classes"])
        if WEIGHTS_ENTRY in checkpoint:  # some strategies load the weights by themselves
            checkpoint[WEIGHTS_ENTRY] = wrapped(checkpoint[WEIGHTS_ENTRY], self.state_dict())

    def _entry(self, step: int) -> dict[str, Any]:
        return descendant_entry(
            self.kind, self.config, self.arguments, tokenizer=self.tokenizer, classes=self.classes, step=step
        )

    def _checked(self, batch: AnyBatch) -> AnyBatch:
        if not isinstance(batch, self.batch_type):
            raise UserError(
                f"the loader gives {type(batch).__name__}, but {type(self).__name__} takes {self.batch_type.__name__}: "
                "give it other data"
            )
        return batch
