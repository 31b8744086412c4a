"""Training BART and T5: an encoder reads a damaged text, and a decoder restores what is hidden.

Both are `Transformer`s and differ in their settings and objectives.

Legend: B batch, T target length.
"""

from typing import ClassVar

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lit_transformer.batch import PAD_ID, SEED, VOCAB_SIZE, Batch
from lit_transformer.data.objectives import SpanCorruption, TextInfilling
from lit_transformer.model.bart import BART_BASE
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.t5 import T5_SMALL
from lit_transformer.model.transformer import Transformer
from lit_transformer.training.flops import encoder_decoder_flops
from lit_transformer.training.restoring import LitRestorer
from lit_transformer.training.schedule import ScheduleName
from lit_transformer.training.teacher_forcing import decoder_states


class LitDenoiser(LitRestorer):
    """An encoder-decoder that learns under teacher forcing. A subclass has the objective."""

    batch_type: ClassVar[type] = Batch
    has_decoder: ClassVar[bool] = True
    transformer: Transformer

    def predictions(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return decoder_states(self.transformer, batch), batch.target_output_BT

    def training_flops(self, *, source_tokens: float, target_tokens: float, lengths: tuple[float, float]) -> float:
        assert self.vocab_size is not None
        return encoder_decoder_flops(
            self.config,
            vocab_size=self.vocab_size,
            source_tokens=source_tokens,
            target_tokens=target_tokens,
            lengths=lengths,
        )


class LitBART(LitDenoiser):
    """A BART that learns to restore a text in which spans are hidden, each behind one `<mask>`.

    Args:
        transformer: The architecture. The default is BART's base model.
        vocab_size: Tokens of the vocabulary, `<mask>` included.
        mask_share: Share of the tokens that are hidden.
        mean_span: Mean number of tokens that are hidden together.
        label_smoothing: Epsilon of section 5.4, spread over the whole vocabulary.
        warmup_steps: Optimizer steps over which the learning rate rises (section 5.3).
        learning_rate_scale: Factor on the paper's learning rate. Small models tolerate more than 1.
        learning_rate: The peak rate, at the end of the warm-up. By default, it is the paper's, d_model^-0.5
            warmup_steps^-0.5, times learning_rate_scale.
        optimizer: An optimizer of torch or of another package, such as `AdamW`. Its arguments follow as
            `optimizer.weight_decay` and so on. By default, it is Adam with the paper's betas and epsilon.
        schedule: The course of the learning rate: `inverse_square_root`, `constant`, `linear`, `cosine`, or a scheduler
            of torch.
        seed: Dropout is a function of the seed, the step and the rank. Follows seed_everything.
    """

    kind: ClassVar[str] = "bart"

    def __init__(
        self,
        transformer: TransformerConfig = BART_BASE,
        vocab_size: int = VOCAB_SIZE,
        mask_share: float = 0.3,
        mean_span: float = 3.0,
        label_smoothing: float = 0.0,
        warmup_steps: int = 4000,
        learning_rate_scale: float = 1.0,
        learning_rate: float | None = None,
        optimizer: OptimizerCallable | None = None,
        schedule: ScheduleName | LRSchedulerCallable = "inverse_square_root",
        seed: int = SEED,
    ) -> None:
        super().__init__(
            Transformer,
            transformer,
            {"vocab_size": vocab_size, "pad_id": PAD_ID},
            label_smoothing=label_smoothing,
            warmup_steps=warmup_steps,
            learning_rate_scale=learning_rate_scale,
            learning_rate=learning_rate,
            optimizer=optimizer,
            schedule=schedule,
            seed=seed,
        )
        self.objective = TextInfilling(mask_share, mean_span)
        self.measure_accuracy()


class LitT5(LitDenoiser):
    """A T5 that learns to write the spans that are hidden, each behind a sentinel of its own.

    Args:
        transformer: The architecture. The default is the small model of T5 1.0.
        vocab_size: Tokens of the vocabulary, sentinels included.
        mask_share: Share of the tokens that are hidden.
        mean_span: Mean number of tokens that are hidden together.
        label_smoothing: Epsilon of section 5.4, spread over the whole vocabulary.
        warmup_steps: Optimizer steps over which the learning rate rises (section 5.3).
        learning_rate_scale: Factor on the paper's learning rate. Small models tolerate more than 1.
        learning_rate: The peak rate, at the end of the warm-up. By default, it is the paper's, d_model^-0.5
            warmup_steps^-0.5, times learning_rate_scale.
        optimizer: An optimizer of torch or of another package, such as `AdamW`. Its arguments follow as
            `optimizer.weight_decay` and so on. By default, it is Adam with the paper's betas and epsilon.
        schedule: The course of the learning rate: `inverse_square_root`, `constant`, `linear`, `cosine`, or a scheduler
            of torch.
        seed: Dropout is a function of the seed, the step and the rank. Follows seed_everything.
    """

    kind: ClassVar[str] = "t5"

    def __init__(
        self,
        transformer: TransformerConfig = T5_SMALL,
        vocab_size: int = VOCAB_SIZE,
        mask_share: float = 0.15,
        mean_span: float = 3.0,
        label_smoothing: float = 0.0,
        warmup_steps: int = 4000,
        learning_rate_scale: float = 1.0,
        learning_rate: float | None = None,
        optimizer: OptimizerCallable | None = None,
        schedule: ScheduleName | LRSchedulerCallable = "inverse_square_root",
        seed: int = SEED,
    ) -> None:
        super().__init__(
            Transformer,
            transformer,
            {"vocab_size": vocab_size, "pad_id": PAD_ID},
            label_smoothing=label_smoothing,
            warmup_steps=warmup_steps,
            learning_rate_scale=learning_rate_scale,
            learning_rate=learning_rate,
            optimizer=optimizer,
            schedule=schedule,
            seed=seed,
        )
        self.objective = SpanCorruption(mask_share, mean_span)
        self.measure_accuracy()
