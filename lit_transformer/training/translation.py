"""Training a translator: the encoder-decoder loss, and validation by decoding. It knows neither corpora nor runs.

Legend: B batch, S source length, T target length.
"""

from dataclasses import asdict
from typing import Any, Self

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric

from lit_transformer.batch import EOS_ID, PAD_ID, SEED, VOCAB_SIZE, Batch, TextBatch, ids_of
from lit_transformer.checkpoints.format import (
    MODEL_ENTRY,
    WEIGHTS_ENTRY,
    model_entry,
    read_checkpoint,
    unwrapped,
    upgrade_checkpoint,
    vocabularies_in,
    vocabulary_entries,
    wrapped,
)
from lit_transformer.checkpoints.places import find_checkpoint
from lit_transformer.checkpoints.trained_model import SEARCH_ENTRY, check_sizes, search_in
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding.devices import enough_memory
from lit_transformer.decoding.translator import Translator
from lit_transformer.errors import UserError
from lit_transformer.evaluation.bleu import Tokenization, check_tokenization, tokenization_of
from lit_transformer.evaluation.metrics import final_metrics, text_metrics
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.notes import print_note
from lit_transformer.search_settings import MAX_BEAM_SIZE, SearchSettings
from lit_transformer.training.batch_loss import BatchLoss
from lit_transformer.training.loading import saved_arguments
from lit_transformer.training.loss import LossSums
from lit_transformer.training.metrics import PREFIX, SELECTION, TEST_PREFIX, loss_metrics, selection_score
from lit_transformer.training.module import LitModel
from lit_transformer.training.samples import Sample, first_samples, translate_batch, with_sources
from lit_transformer.training.schedule import ScheduleName


class LitTransformer(LitModel):
    """The Transformer with the paper's training recipe (section 5).

    Args:
        transformer: The architecture. The default is the paper's base model.
        vocab_size: Tokens of the vocabulary that both languages share (section 5.1).
        source_vocab_size: Tokens of a vocabulary for the source alone. The one of vocab_size is then for the target
            alone. By default, both languages share one.
        label_smoothing: Epsilon of section 5.4, spread over the whole vocabulary.
        warmup_steps: Optimizer steps over which the learning rate rises (section 5.3).
        learning_rate_scale: Factor on the paper's learning rate. Small models tolerate more than 1.
        learning_rate: The peak rate, at the end of the warm-up. By default, it is the paper's, d_model^-0.5
            warmup_steps^-0.5, times learning_rate_scale.
        optimizer: An optimizer of torch or of another package, such as `AdamW`. Its arguments follow as
            `optimizer.weight_decay` and so on. learning_rate takes the place of its `lr`. Biases and normalization have
            no weight decay. By default, it is Adam with the paper's betas and epsilon.
        schedule: The course of the learning rate. After the warm-up it falls with the `inverse_square_root` of the
            step, as in the paper, or stays `constant`, or falls to 0 at the end of the run (`linear`, `cosine`). A
            scheduler of torch, such as `StepLR`, takes the place of all this, the warm-up included, and counts steps.
        validation_beam_size: Beam size for validation BLEU. 1 is greedy search, which is fast.
        bleu_tokenize: sacreBLEU's tokenizer for validation BLEU. By default, it depends on the target language. Give
            `none` for a corpus that is already tokenized.
        compile: Whether forward pass and loss of training are compiled. The first step takes minutes then.
        activation_checkpointing: Whether the backward pass computes each layer again, to save memory. It is slower.
        seed: Dropout is a function of the seed, the step and the rank. Follows seed_everything.
    """

    def __init__(
        self,
        transformer: TransformerConfig = TransformerConfig(),
        vocab_size: int = VOCAB_SIZE,
        source_vocab_size: int | None = None,
        label_smoothing: float = 0.1,
        warmup_steps: int = 4000,
        learning_rate_scale: float = 1.0,
        learning_rate: float | None = None,
        optimizer: OptimizerCallable | None = None,
        schedule: ScheduleName | LRSchedulerCallable = "inverse_square_root",
        validation_beam_size: int = 1,
        bleu_tokenize: Tokenization | None = None,
        compile: bool = False,
        activation_checkpointing: bool = False,
        seed: int = SEED,
    ) -> None:
        super().__init__(
            d_model=transformer.d_model,
            warmup_steps=warmup_steps,
            learning_rate_scale=learning_rate_scale,
            seed=seed,
            optimizer=optimizer,
            learning_rate=learning_rate,
            schedule=schedule,
        )
        if not 0.0 <= label_smoothing < 1.0:
            raise UserError(f"label_smoothing is {label_smoothing}: it must be at least 0 and below 1")
        for name, size in (("vocab_size", vocab_size), ("source_vocab_size", source_vocab_size)):
            if size is not None and size < EOS_ID + 2:
                raise UserError(f"{name} is {size}: it must be at least {EOS_ID + 2}")
        if not 1 <= validation_beam_size <= MAX_BEAM_SIZE:
            raise UserError(f"validation_beam_size is {validation_beam_size}: it must be from 1 to {MAX_BEAM_SIZE}")
        try:
            self.transformer = Transformer(
                transformer,
                vocab_size=vocab_size,
                pad_id=PAD_ID,
                source_vocab_size=source_vocab_size,
                activation_checkpointing=activation_checkpointing,
            )
        # torch raises these if there is not enough memory, or if a size does not fit into an integer.
        except (RuntimeError, TypeError, OverflowError) as error:
            raise UserError(
                f"the model is too large for this machine ({str(error).splitlines()[0]}): lower vocab_size, "
                "d_model or d_ff"
            ) from error
        # Plain data: an optimizer or a schedule that is a function is left out.
        functions = [name for name, value in (("optimizer", optimizer), ("schedule", schedule)) if callable(value)]
        self.save_hyperparameters(ignore=["transformer", *functions])
        self.save_hyperparameters({"transformer": asdict(transformer)})
        self.vocab_size, self.source_vocab_size, self.max_positions = vocab_size, source_vocab_size, transformer.longest
        self.label_smoothing = label_smoothing
        self.batch_loss = BatchLoss(compiles=compile)
        self.validation_beam_size, self.bleu_tokenize = validation_beam_size, bleu_tokenize
        self.val_scores = text_metrics(tokenize=bleu_tokenize or "13a", prefix=PREFIX)
        self.test_losses = loss_metrics(TEST_PREFIX)
        self.test_scores = final_metrics(tokenize=bleu_tokenize or "13a", prefix=TEST_PREFIX)
        self.search = SearchSettings()
        """How `test_step` and `predict_step` search, and its translator. By default as the paper (section 6.1)."""
        self.vocabularies: Vocabularies | None = None
        """Those that the model is trained with: the datamodule's, or those of the checkpoint that it was read from."""
        self.source = self.target = ""
        """The languages, from the same place."""
        self.samples: list[Sample] = []
        """The first sentences of this rank's last validation."""
        self.distinct: list[str] = []
        """Two different translations of this rank's last validation, or one if all are the same."""

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = True,
        **changes: Any,
    ) -> Self:
        """Read a model to train further.

        Args:
            checkpoint_path: A checkpoint, a run folder, or a folder above runs.
            map_location: Lightning's, like the next three.
            hparams_file: A YAML file with other arguments.
            strict: Whether all weights must be there.
            weights_only: Whether only plain data are read. A checkpoint with other data is refused in any case.
            changes: Arguments to change, such as `label_smoothing`, also those of `TransformerConfig`, such as
                `dropout`.

        Raises:
            UserError: There is no checkpoint that can be read, or no such argument.
        """
        path = find_checkpoint(checkpoint_path)
        arguments = saved_arguments(cls, read_checkpoint(path, mmap=True), changes)
        return super().load_from_checkpoint(path, map_location, hparams_file, strict, weights_only, **arguments)

    @property
    def metric_names(self) -> tuple[str, ...]:
        return (*super().metric_names, *self.val_scores, SELECTION)

    def forward(self, source_BS: Tensor, target_input_BT: Tensor) -> Tensor:
        """Return the logits under teacher forcing, as `transformer` does. `predict_step` translates."""
        return self.transformer(source_BS, target_input_BT)

    def loss_sums(self, batch: Batch) -> LossSums:
        """Return the losses of a micro-batch under teacher forcing, summed over its target tokens."""
        return self.batch_loss.loss_sums(self.transformer, batch, epsilon=self.label_smoothing)

    def setup(self, stage: str) -> None:
        """Take vocabularies and languages from the datamodule, and choose the tokenizer of BLEU by the target language.

        A node that lacks the language's tokenizer counts characters.

        Raises:
            UserError: The datamodule has vocabularies of other sizes, or others than the model was trained with.
        """
        super().setup(stage)
        data = self.trainer.datamodule  # type: ignore[attr-defined] # set, but not declared
        vocabularies = getattr(data, "vocabularies", None)
        if isinstance(vocabularies, Vocabularies):  # batches may come from elsewhere
            check_sizes(self.transformer, vocabularies)
            if self.vocabularies and vocabulary_entries(self.vocabularies) != vocabulary_entries(vocabularies):
                raise UserError(
                    "the data have another vocabulary than the one that the model was trained with: leave out "
                    "tokenizer, or make a new model"
                )
            self.vocabularies, self.source, self.target = vocabularies, data.source, data.target
        elif stage == "fit" and self.vocabularies is None and self.trainer.checkpoint_callback is not None:
            print_note(
                "the checkpoints will have no vocabulary, because the batches do not come from TranslationData: set "
                "model.vocabularies, so that the checkpoints can translate"
            )
        tokenize = self.bleu_tokenize or tokenization_of(self.target)
        try:
            check_tokenization(tokenize)
        except UserError as error:
            if self.trainer.is_global_zero:
                print_note(f"validation BLEU is counted in characters: {error}")
            tokenize = "char"
        if tokenize != self.val_scores["bleu"].tokenize:
            self.val_scores = text_metrics(tokenize=tokenize, prefix=PREFIX)
            self.test_scores = final_metrics(tokenize=tokenize, prefix=TEST_PREFIX)

    def training_step(self, batch: Batch | TextBatch, batch_idx: int) -> Any:
        """Return the micro-batch's share of the step's mean loss per target token."""
        return super().training_step(ids_of(batch), batch_idx)

    def validation_step(self, batch: Batch | TextBatch, batch_idx: int) -> None:
        """Add a batch to the validation loss, and the translations of a `TextBatch` to the scores.

        Raises:
            UserError: There is not enough memory, or no vocabulary.
        """
        with enough_memory("lower validation_batch_tokens"):
            super().validation_step(ids_of(batch), batch_idx)
            if isinstance(batch, TextBatch):
                translations = self._translate(batch, SearchSettings(beam_size=self.validation_beam_size))
                self.val_scores.update(translations, batch.references)
                self.distinct = sorted({*self.distinct, *translations})[:2]
                rows = zip(batch.indices, batch.sources, translations, batch.references, strict=True)
                self.samples = first_samples([*self.samples, *(Sample(*row) for row in rows)])

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.samples, self.distinct = [], []

    def validation_values(self) -> dict[str, Metric | float]:
        """Add the scores of the translations, and the value that selects the best checkpoint."""
        has_text = self.val_scores["bleu"].update_called  # the loader may give ids only
        bleu = float(self.val_scores["bleu"].compute()) if has_text else 0.0
        selection = selection_score(bleu=bleu, loss=float(self.val_losses["loss"].compute()))
        scores = dict(self.val_scores.items(copy_state=False)) if has_text else {}
        return {**super().validation_values(), **scores, SELECTION: selection}

    def test_step(self, batch: Batch | TextBatch, batch_idx: int) -> None:
        """Add a batch to the test's loss, and the translations of a `TextBatch` to its scores."""
        with enough_memory("lower validation_batch_tokens"):
            ids = ids_of(batch)
            if ids.num_target_tokens:
                self.test_losses.update(self.loss_sums(ids), ids.num_target_tokens)
            if isinstance(batch, TextBatch):
                self.test_scores.update(self._translate(batch, self.search), batch.references)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self.test_losses)
        if self.test_scores["chrf"].update_called:
            self.log_dict(self.test_scores)

    def predict_step(self, batch: Any, batch_idx: int) -> list[str]:
        """Return the translations of a `Batch`, a `TextBatch` or a list of texts, in the same order."""
        if isinstance(batch, list | tuple) and all(isinstance(text, str) for text in batch):
            vocabularies = self._known_vocabularies()
            return Translator(self.transformer, vocabularies, device=str(self.device)).translate(batch, self.search)
        if not isinstance(batch, TextBatch):
            batch = with_sources(ids_of(batch), self._known_vocabularies())
        with enough_memory("lower validation_batch_tokens"):
            return self._translate(batch, self.search)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the checkpoint a complete translator."""
        checkpoint[MODEL_ENTRY] = model_entry(
            self.transformer, self.vocabularies, self.source, self.target, self.trainer.global_step, self.search
        )
        checkpoint[WEIGHTS_ENTRY] = unwrapped(checkpoint[WEIGHTS_ENTRY])
        super().on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        upgrade_checkpoint(checkpoint)
        super().on_load_checkpoint(checkpoint)
        entry = checkpoint[MODEL_ENTRY]
        self.search = search_in(entry, "the checkpoint") if SEARCH_ENTRY in entry else self.search
        if self.vocabularies is None:
            self.vocabularies, self.source, self.target = vocabularies_in(entry), entry["source"], entry["target"]
        if WEIGHTS_ENTRY in checkpoint:  # some strategies load the weights by themselves
            checkpoint[WEIGHTS_ENTRY] = wrapped(checkpoint[WEIGHTS_ENTRY], self.state_dict())

    def _known_vocabularies(self) -> Vocabularies:
        if self.vocabularies is None:
            raise UserError(
                "the model has no vocabularies: give the trainer a TranslationData, load the model from a checkpoint, "
                "or set model.vocabularies"
            )
        return self.vocabularies

    def _translate(self, batch: TextBatch, settings: SearchSettings) -> list[str]:
        return translate_batch(self.transformer, self._known_vocabularies(), batch, settings)
