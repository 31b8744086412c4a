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
    keys, values = config.num_heads * config.key_size, config.num_heads * config.value_size
    projections = config.d_model * (2 * keys + 2 * values)
    query_and_output = config.d_model * (keys + values)
    feed_forward = 2 * config.d_model * config.d_ff
    encoder = projections + feed_forward + source_length * (keys + values)
    # A target position attends to half of the target on average, and to all of the source.
    attention = (target_length / 2 + source_length) * (keys + values)
    decoder = projections + query_and_output + feed_forward + attention
    # Each decoder layer projects the source to its own keys and values.
    memory = config.d_model * (keys + values)
    per_source = config.num_layers * (encoder + memory)
    per_target = config.num_layers * decoder + config.d_model * vocab_size
    return 3 * 2 * (per_source * source_tokens + per_target * target_tokens)


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
        causal: Whether a position attends to those before it only, which are half of all on average.
    """
    keys, values = config.num_heads * config.key_size, config.num_heads * config.value_size
    projections = config.d_model * (2 * keys + 2 * values)
    matrices = 3 if config.activation.startswith("gated") else 2
    attended = min(length / 2 if causal else length, config.window or length)
    layer = projections + matrices * config.d_model * config.d_ff + attended * (keys + values)
    return 3 * 2 * (config.num_layers * layer * read_tokens + config.d_model * outputs * predicted_tokens)
