"""T5 (Raffel et al. 2020): the Transformer of the paper with other settings, trained to write the spans that it lacks.

Its authors do not divide the scores of attention by sqrt(d_k), and 1.0 multiplies the last states by d_model^-0.5. Both
factors are part of weights here: of the projection to queries, and of the decoder's final norm.
"""

from dataclasses import replace

from lit_transformer.model.config import TransformerConfig

T5_SMALL = TransformerConfig(
    d_model=512, d_ff=2048, num_heads=8, num_layers=6, norm="pre", norm_type="rms", norm_epsilon=1e-6,
    positions="relative", activation="relu", feed_forward_bias=False, scale_embedding=False)  # fmt: skip
"""The small model of T5 1.0, a `Transformer`. Its vocabulary has 32,128 tokens."""

T5_1_1_SMALL = replace(
    T5_SMALL, d_ff=1024, num_heads=6, num_layers=8, d_k=64, d_v=64,
    activation="gated_gelu_tanh", tied_output=False)  # fmt: skip
"""The small model of T5 1.1, which has gated feed-forward networks and an output matrix of its own."""
