"""Training a BERT: predicting masked tokens from all others.

Legend: B batch, L query length.
"""

from typing import ClassVar

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from lit_transformer.batch import PAD_ID, SEED, VOCAB_SIZE, TokenBatch
from lit_transformer.data.objectives import MaskedLM
from lit_transformer.model.bert import BERT, BERT_BASE
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.flops import stack_flops
from lit_transformer.training.restoring import LitRestorer
from lit_transformer.training.schedule import ScheduleName


class LitBERT(LitRestorer):
    """A BERT that learns to predict masked tokens.

    Args:
        transformer: The architecture. The default is BERT's base model.
        vocab_size: Tokens of the vocabulary, `<mask>` included.
        mask_share: Share of the tokens that are predicted. Of these, 80 % are masked, 10 % are replaced by any token,
            and 10 % stay.
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

    kind: ClassVar[str] = "bert"
    batch_type: ClassVar[type] = TokenBatch
    transformer: BERT

    def __init__(
        self,
        transformer: TransformerConfig = BERT_BASE,
        vocab_size: int = VOCAB_SIZE,
        mask_share: float = 0.15,
        label_smoothing: float = 0.0,
        warmup_steps: int = 4000,
        learning_rate_scale: float = 1.0,
        learning_rate: float | None = None,
        optimizer: OptimizerCallable | None = None,
        schedule: ScheduleName | LRSchedulerCallable = "inverse_square_root",
        seed: int = SEED,
    ) -> None:
        super().__init__(
            BERT,
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
        self.objective = MaskedLM(mask_share)
        self.measure_accuracy()

    def predictions(self, batch: TokenBatch) -> tuple[Tensor, Tensor]:
        return self.transformer.states(batch.input_BL), batch.output_BL

    def training_flops(self, *, source_tokens: float, target_tokens: float, lengths: tuple[float, float]) -> float:
        return stack_flops(
            self.config,
            outputs=self.transformer.vocab_size,
            read_tokens=source_tokens,
            predicted_tokens=target_tokens,
            length=lengths[0],
            causal=False,
        )
