"""The architecture as plain numbers and choices. It knows neither vocabulary nor training."""

from dataclasses import dataclass
from typing import Literal, get_args

from lit_transformer.errors import UserError

Norm = Literal["post", "pre"]
PositionScheme = Literal["sinusoidal", "learned", "rotary", "alibi", "none"]


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

    def __post_init__(self) -> None:
        for name in ("d_model", "d_ff", "num_heads", "num_layers", "max_positions", "d_k", "d_v"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} is {value}: it must be at least 1")
        if not 0.0 <= self.dropout < 1.0:
            raise UserError(f"dropout is {self.dropout}: it must be at least 0 and below 1")
        if (self.d_k is None or self.d_v is None) and self.d_model % self.num_heads:
            raise UserError(
                f"d_model {self.d_model} does not divide by num_heads {self.num_heads}: "
                "change one of them, or give d_k and d_v"
            )
        if self.norm not in get_args(Norm):
            raise UserError(f"norm is {self.norm!r}: choose one of {', '.join(get_args(Norm))}")
        if self.positions not in get_args(PositionScheme):
            choices = ", ".join(get_args(PositionScheme))
            raise UserError(f"positions is {self.positions!r}: choose one of {choices}")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise UserError(f"d_model is {self.d_model}: sinusoidal positions need an even number")
        if self.positions == "rotary" and self.key_size % 2:
            raise UserError(f"d_k is {self.key_size}: rotary positions need an even number")

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
