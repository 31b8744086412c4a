"""The sizes of models that are compared, by name."""

from dataclasses import dataclass

from lit_transformer.model.config import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class Size:
    """A model, and what it is measured on."""

    config: TransformerConfig
    vocab_size: int


SIZES = {
    "tiny": Size(config=TransformerConfig(d_model=256, d_ff=1024, num_heads=4, num_layers=3), vocab_size=8_000),
    "base": Size(config=TransformerConfig(), vocab_size=37_000),
    "big": Size(config=TransformerConfig(d_model=1024, d_ff=4096, num_heads=16, dropout=0.3), vocab_size=37_000),
}
"""Base and big are those of the paper's table 3."""
