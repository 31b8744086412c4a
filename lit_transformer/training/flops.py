"""FLOPs of the matrix products of training, which the forecast of a run counts.

A multiplication and an addition are two FLOPs. The backward pass takes twice those of the forward pass.
"""

from lit_transformer.model.config import TransformerConfig


def encoder_decoder_flops(
    config: TransformerConfig,
    *,
    vocab_size: int,
    source_tokens: float,
    target_tokens: float,
    lengths: tuple[float, float],
) -> float:
    """Return the FLOPs of training an encoder-decoder.

    Args:
        config: The architecture.
        vocab_size: Width of the output.
        source_tokens: Source tokens of the whole run, without padding.
        target_tokens: Target tokens of the whole run, without padding.
        lengths: Mean tokens of a source and of a target sentence. The cost of attention grows with them.
    """
    source_length, target_length = lengths
    size = config.num_heads * (config.key_size + config.value_size)
    # Each decoder layer projects the source to its own keys and values.
    memory = config.d_model * size
    # Projections to the query and of the output, and attention to all of the source.
    cross_attention = (config.d_model + source_length) * size
    per_source = config.num_layers * (_layer(config, source_length, causal=False) + memory)
    per_target = config.num_layers * (_layer(config, target_length, causal=True) + cross_attention)
    return 3 * 2 * (per_source * source_tokens + (per_target + config.d_model * vocab_size) * target_tokens)


def stack_flops(
    config: TransformerConfig, *, outputs: int, read_tokens: float, predicted_tokens: float, length: float, causal: bool
) -> float:
    """Return the FLOPs of training a single stack.

    Args:
        config: The architecture.
        outputs: Width of the output.
        read_tokens: Positions of the whole run, without padding.
        predicted_tokens: Predictions of the whole run.
        length: Mean positions of a sequence. The cost of attention grows with it.
        causal: Whether a position attends to those before it only.
    """
    layer = _layer(config, length, causal=causal)
    return 3 * 2 * (config.num_layers * layer * read_tokens + config.d_model * outputs * predicted_tokens)


def _layer(config: TransformerConfig, length: float, *, causal: bool) -> float:
    """Multiplications of a layer without cross-attention, forward, per position."""
    size = config.num_heads * (config.key_size + config.value_size)
    matrices = 3 if config.activation.startswith("gated") else 2
    attended = _attended(config, length, causal=causal)
    return config.d_model * (2 * size + matrices * config.d_ff) + attended * size


def _attended(config: TransformerConfig, length: float, *, causal: bool) -> float:
    """Keys that a position attends to, about as many as on average. A window reaches to both sides, or to one."""
    all_keys = length / 2 if causal else length
    if config.window is None:
        return all_keys
    return min(all_keys, config.window if causal else 2 * config.window - 1)
