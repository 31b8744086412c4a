"""BART (Lewis et al. 2020): the Transformer of the paper with other settings, trained to restore damaged text."""

from lit_transformer.model.config import TransformerConfig

BART_BASE = TransformerConfig(
    d_model=768, d_ff=3072, num_heads=12, num_layers=6, positions="learned", max_positions=1024, activation="gelu",
    attention_bias=True, embedding_norm=True, scale_embedding=False)  # fmt: skip
"""The base model, a `Transformer`. Its vocabulary has 50,265 tokens.

In `transformers` its logits have a bias (`output_bias`), which is zero in the published weights.
"""
