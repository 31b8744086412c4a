"""Training a translator: the encoder-decoder loss, and validation by decoding. It knows neither corpora nor runs.

Legend: B batch, S source length, T target length.
"""

from dataclasses import asdict
from typing import Any

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lit_transformer.batch import PAD_ID, SEED, VOCAB_SIZE, Batch, TextBatch, ids_of
from lit_transformer.checkpoints.format import (
    MODEL_ENTRY,
    WEIGHTS_ENTRY,
    model_entry,
    unwrapped,
    upgrade_checkpoint,
    vocabularies_in,
    vocabulary_entries,
    wrapped,
)
from lit_transformer.checkpoints.trained_model import SEARCH_ENTRY, check_sizes, search_in, without_memory
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding.devices import enough_memory
from lit_transformer.decoding.translator import Translator
from lit_transformer.errors import UserError
from lit_transformer.evaluation.bleu import (
    TOKENIZED_REFERENCES,
    Tokenization,
    check_tokenization,
    describe_bleu,
    tokenization_of,
)
from lit_transformer.evaluation.metrics import final_metrics, text_metrics
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.notes import print_note
from lit_transformer.search_settings import MAX_BEAM_SIZE, SearchSettings
from lit_transformer.training.batch_loss import BatchLoss
from lit_transformer.training.flops import encoder_decoder_flops
from lit_transformer.training.loading import check_module, large_models_refused
from lit_transformer.training.loss import LossSums
from lit_transformer.training.metrics import PREFIX, TEST_PREFIX, loss_metrics, selection_score
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

    transformer: Transformer

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
        check_module(label_smoothing=label_smoothing, vocab_size=vocab_size, source_vocab_size=source_vocab_size)
        if not 1 <= validation_beam_size <= MAX_BEAM_SIZE:
            raise UserError(f"validation_beam_size is {validation_beam_size}: it must be from 1 to {MAX_BEAM_SIZE}")
        with large_models_refused():
            self.transformer = Transformer(
                transformer,
                vocab_size=vocab_size,
                pad_id=PAD_ID,
                source_vocab_size=source_vocab_size,
                activation_checkpointing=activation_checkpointing,
            )
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

    @property
    def compiles(self) -> bool:
        return self.batch_loss.compiles

    @property
    def tokenize(self) -> str | None:
        return self.bleu_tokenize

    @property
    def facts(self) -> dict[str, str]:
        return {"BLEU tokenizer": str(self.val_scores["bleu"].tokenize)}  # a node without MeCab counts characters

    def find_warnings(self, data: Any) -> list[str]:
        splits = (self.bleu_tokenize or tokenization_of(data.target)) != "none"
        return [TOKENIZED_REFERENCES] if splits and data.is_tokenized else []

    def describe_selection(self, score: float) -> str:
        how = f"sacreBLEU, {self.val_scores['bleu'].tokenize}, beam {self.validation_beam_size}"
        return describe_bleu(score, how)

    def training_flops(self, *, source_tokens: float, target_tokens: float, lengths: tuple[float, float]) -> float:
        return encoder_decoder_flops(
            self.config,
            vocab_size=self.vocab_size,
            source_tokens=source_tokens,
            target_tokens=target_tokens,
            lengths=lengths,
        )

    def without_memory(self) -> Transformer:
        return without_memory(self.config, self.vocab_size, self.source_vocab_size)

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

    @property
    def selection(self) -> float:
        bleu = self.val_scores["bleu"]
        score = float(bleu.compute()) if bleu.update_called else 0.0  # the loader may give ids only
        return selection_score(bleu=score, loss=float(self.val_losses["loss"].compute()))

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
