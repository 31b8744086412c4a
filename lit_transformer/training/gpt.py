"""Training a GPT: predicting each token from those before it.

Legend: B batch, L query length.
"""

from typing import ClassVar

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from lit_transformer.batch import SEED, VOCAB_SIZE, TokenBatch
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.gpt import GPT, GPT2
from lit_transformer.training.descendant import LitDescendant
from lit_transformer.training.flops import stack_flops
from lit_transformer.training.loss import LossSums
from lit_transformer.training.schedule import ScheduleName


class LitGPT(LitDescendant):
    """A GPT that learns to predict the next token.

    Args:
        transformer: The architecture. The default is the smallest GPT-2.
        vocab_size: Tokens of the vocabulary.
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

    kind: ClassVar[str] = "gpt"
    batch_type: ClassVar[type] = TokenBatch

    def __init__(
        self,
        transformer: TransformerConfig = GPT2,
        vocab_size: int = VOCAB_SIZE,
        label_smoothing: float = 0.0,
        warmup_steps: int = 4000,
        learning_rate_scale: float = 1.0,
        learning_rate: float | None = None,
        optimizer: OptimizerCallable | None = None,
        schedule: ScheduleName | LRSchedulerCallable = "inverse_square_root",
        seed: int = SEED,
    ) -> None:
        super().__init__(
            GPT,
            transformer,
            {"vocab_size": vocab_size},
            label_smoothing=label_smoothing,
            warmup_steps=warmup_steps,
            learning_rate_scale=learning_rate_scale,
            learning_rate=learning_rate,
            optimizer=optimizer,
            schedule=schedule,
            seed=seed,
        )

    def loss_sums(self, batch: TokenBatch) -> LossSums:
        """Return the losses of a micro-batch, summed over its tokens."""
        return self.token_loss(self.transformer.states(batch.input_BL), batch.output_BL)  # type: ignore[operator]

    def training_flops(self, *, source_tokens: float, target_tokens: float, lengths: tuple[float, float]) -> float:
        assert self.vocab_size is not None
        return stack_flops(
            self.config,
            outputs=self.vocab_size,
            read_tokens=source_tokens,
            predicted_tokens=target_tokens,
            length=lengths[0],
            causal=True,
        )
