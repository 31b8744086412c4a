"""The architecture as plain numbers and choices. It knows neither vocabulary nor training."""

from dataclasses import dataclass
from typing import Literal, get_args

from lit_transformer.errors import UserError

Norm = Literal["post", "pre"]
PositionScheme = Literal["sinusoidal", "learned", "rotary", "alibi", "relative", "none"]
NormType = Literal["layer", "rms"]
Activation = Literal["relu", "gelu", "gelu_tanh", "silu", "gated_relu", "gated_gelu", "gated_gelu_tanh", "gated_silu"]
"""`gelu_tanh` is the approximation of GPT-2. `gated` ones multiply by a second projection (Shazeer 2020)."""
CHOICES: dict[str, tuple[str, ...]] = {
    "norm": get_args(Norm),
    "positions": get_args(PositionScheme),
    "norm_type": get_args(NormType),
    "activation": get_args(Activation),
}
"""The values of the fields that name one of several."""


def longest_sequence(positions: PositionScheme, max_positions: int) -> int | None:
    """Tokens of the longest sequence that a position scheme allows, or None if there is no limit."""
    return max_positions if positions == "learned" else None


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Hyperparameters of the encoder-decoder (Table 3). The defaults are the paper's base model.

    Args:
        d_model: Width of the embeddings and of every sub-layer's output.
        d_ff: Inner width of the position-wise feed-forward network.
        num_heads: Attention heads of every attention sub-layer.
        num_layers: Layers of the encoder, and of the decoder.
        d_k: Width of a query or key head. The default is d_model / num_heads.
        d_v: Width of a value head. The default is d_model / num_heads.
        dropout: Rate on every sub-layer's output and on the sums of embeddings and positions (section 5.4).
        norm: Layer normalization after the residual sum (`post`, as in the paper) or before the sub-layer (`pre`).
        positions: How the model represents word order. `none` ignores it, for experiments.
        max_positions: Longest sequence in tokens, for learned positions only. The other schemes have no limit. Longer
            validation sentences are cut.
        activation: Activation of the feed-forward network.
        feed_forward_bias: Whether the linear layers of the feed-forward network have biases.
        attention_bias: Whether the projections of attention have biases.
        norm_type: Layer normalization (`layer`), or root mean square normalization without a bias (`rms`).
        norm_epsilon: Added to the variance in every normalization.
        embedding_norm: Whether the sums of embeddings and positions are normalized.
        scale_embedding: Whether embeddings are multiplied by sqrt(d_model) (section 3.4).
        tied_output: Whether the embedding matrix also projects to the vocabulary (section 3.4).
        output_bias: Whether the projection to the vocabulary has a bias.
        window: A position attends to positions less than this far away only (sliding-window attention). By default, to
            all. Attention to the source has no window.
        rotary_base: Base of the wavelengths of rotary positions. A larger one suits longer sequences.
        rotary_scaling: Positions are divided by this factor before they are rotated, for sequences longer than those of
            training (Chen et al. 2023).
        relative_buckets: Distances that relative positions tell apart, with one learned bias per head each.
        relative_distance: All distances from this one on share a bucket.

    Raises:
        UserError: If a value is out of range or two values do not fit each other.
    """

    d_model: int = 512
    d_ff: int = 2048
    num_heads: int = 8
    num_layers: int = 6
    d_k: int | None = None
    d_v: int | None = None
    dropout: float = 0.1
    norm: Norm = "post"
    positions: PositionScheme = "sinusoidal"
    max_positions: int = 1024
    activation: Activation = "relu"
    feed_forward_bias: bool = True
    attention_bias: bool = False
    norm_type: NormType = "layer"
    norm_epsilon: float = 1e-5
    embedding_norm: bool = False
    scale_embedding: bool = True
    tied_output: bool = True
    output_bias: bool = False
    window: int | None = None
    rotary_base: float = 10000.0
    rotary_scaling: float = 1.0
    relative_buckets: int = 32
    relative_distance: int = 128

    def __post_init__(self) -> None:
        for name in ("d_model", "d_ff", "num_heads", "num_layers", "max_positions", "d_k", "d_v", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}: it must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout is {self.dropout}: it must be at least 0 and below 1")
        for name, choices in CHOICES.items():
            if (chosen := getattr(self, name)) not in choices:
                raise UserError(f"{name} is {chosen!r}: choose one of {', '.join(choices)}")
        for name in ("norm_epsilon", "rotary_base", "rotary_scaling"):
            if not 0.0 < (number := getattr(self, name)) < float("inf"):
                raise UserError(f"{name} is {number}: it must be above 0 and finite")
        self._check_heads_and_positions()

    def _check_heads_and_positions(self) -> None:
        if (self.d_k is None or self.d_v is None) and self.d_model % self.num_heads:
            raise UserError(
                f"d_model {self.d_model} does not divide by num_heads {self.num_heads}: "
                "change one of them, or give d_k and d_v"
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise UserError(f"d_model is {self.d_model}: sinusoidal positions need an even number")
        if self.positions == "rotary" and self.key_size % 2:
            raise UserError(f"d_k is {self.key_size}: rotary positions need an even number")
        if self.relative_buckets < 4 or self.relative_buckets % 2:
            raise UserError(f"relative_buckets is {self.relative_buckets}: it must be an even number from 4 on")
        if self.relative_distance <= self.relative_buckets:
            raise UserError(
                f"relative_distance is {self.relative_distance}: it must be above relative_buckets, "
                f"{self.relative_buckets}"
            )

    @property
    def longest(self) -> int | None:
        """Tokens of the longest sequence that the positions allow, or None if there is no limit."""
        return longest_sequence(self.positions, self.max_positions)

    @property
    def key_size(self) -> int:
        """Width of a query or key head: d_k."""
        return self.d_k if self.d_k is not None else self.d_model // self.num_heads

    @property
    def value_size(self) -> int:
        """Width of a value head: d_v."""
        return self.d_v if self.d_v is not None else self.d_model // self.num_heads
