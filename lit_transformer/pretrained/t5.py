"""T5 of `transformers` (`model_type` t5): version 1.0, and 1.1 with gated activations and an output of its own.

Two of its constants are folded into weights. T5 does not divide scores of attention by sqrt(d_k), so W^Q is multiplied
by it. Version 1.0 multiplies the decoder's states by 1 / sqrt(d_model), so the decoder's last norm is.
"""

from pathlib import Path

from lit_transformer.checkpoints.descendants import TrainedDescendant
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.pretrained.config import ACTIVATIONS, ForeignConfig
from lit_transformer.pretrained.tokenizers import read_tokenizer
from lit_transformer.pretrained.weights import ForeignWeights, Recipe, joined, per_layer, same, scaled

EMBEDDING, OUTPUT = "shared.weight", "lm_head.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
IGNORED = ("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",)
"""Older versions stored a table for the attention to the source, which nothing uses."""
FEED_FORWARDS = {
    **ACTIVATIONS,
    **{f"gated-{name}": f"gated_{ours}" for name, ours in ACTIVATIONS.items()},
    "gated-gelu": "gated_gelu_tanh",  # by agreement, because version 1.1 was published under this name
}


def load_t5(folder: Path, config: ForeignConfig) -> TrainedDescendant:
    """Read a T5 with its vocabulary.

    Raises:
        UserError: If a file is missing, damaged, or has what this project does not.
    """
    weights = ForeignWeights(folder)
    weights.check_equal(EMBEDDING, COPIES)
    architecture = read_config(config, weights)
    vocab_size, pad_id = config.integer("vocab_size", 32128), config.integer("pad_token_id", 0)
    t5 = config.empty(lambda: Transformer(architecture, vocab_size=vocab_size, pad_id=pad_id))
    scales_states = config.flag("scale_decoder_outputs", config.flag("tie_word_embeddings", True))
    weights.load_into(t5, table(architecture, scales_states=scales_states), ignored=IGNORED)
    tokenizer, special = read_tokenizer(folder, config, vocab_size=vocab_size)
    return TrainedDescendant(t5, "t5", tokenizer, special, 0, folder)


def read_config(config: ForeignConfig, weights: ForeignWeights) -> TransformerConfig:
    """Their settings as ours. The weights show whether the output is tied, because 1.1 is stored in either way."""
    config.only(is_encoder_decoder=True, is_decoder=False)
    name = config.text("feed_forward_proj", "relu")
    activation = config.choice("feed_forward_proj", FEED_FORWARDS, "relu")
    # Newer versions also store what follows from the name.
    dense = "gelu_new" if name == "gated-gelu" else name.removeprefix("gated-")
    config.only(is_gated_act=activation.startswith("gated_"), dense_act_fn=dense)
    num_layers = config.integer("num_layers", 6)
    if config.has("num_decoder_layers"):
        config.equal("num_layers", "num_decoder_layers", 6)
    return config.architecture(
        {
            "d_model": config.integer("d_model", 512),
            "d_ff": config.integer("d_ff", 2048),
            "num_heads": config.integer("num_heads", 8),
            "num_layers": num_layers,
            "d_k": config.integer("d_kv", 64),
            "d_v": config.integer("d_kv", 64),
            "dropout": config.number("dropout_rate", 0.1),
            "norm": "pre",
            "positions": "relative",
            "activation": activation,
            "feed_forward_bias": False,
            "norm_type": "rms",
            "norm_epsilon": config.number("layer_norm_epsilon", 1e-6),
            "scale_embedding": False,
            "tied_output": OUTPUT not in weights,
            "relative_buckets": config.integer("relative_attention_num_buckets", 32),
            "relative_distance": config.integer("relative_attention_max_distance", 128),
        },
        num_weights=len(weights),
    )


def table(config: TransformerConfig, *, scales_states: bool) -> dict[str, Recipe]:
    """Our names and theirs.

    Args:
        config: The architecture.
        scales_states: Whether the decoder's states are multiplied by 1 / sqrt(d_model).
    """
    root = config.key_size**0.5
    norms = {"encoder": 1.0, "decoder": config.d_model**-0.5 if scales_states else 1.0}
    stacks: dict[str, Recipe] = {}
    for side, factor in norms.items():
        stacks |= {
            f"{side}.positions.table.weight": same(
                f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
            ),
            **per_layer(config.num_layers, f"{side}.layers", f"{side}.block", layer_table(config, side, root)),
            f"{side}.norm.weight": scaled(f"{side}.final_layer_norm.weight", factor),
        }
    output = {} if config.tied_output else {"output.weight": same(OUTPUT)}
    return {"embedding.weight": same(EMBEDDING), **output, **stacks}


def layer_table(config: TransformerConfig, side: str, root: float) -> dict[str, Recipe]:
    """The table of a layer. `root` is sqrt(d_k)."""
    own, cross = "layer.0.SelfAttention", "layer.1.EncDecAttention"
    last = "layer.1" if side == "encoder" else "layer.2"
    inner = ("wi_0", "wi_1") if config.activation.startswith("gated_") else ("wi",)
    attention_to_source = {
        "cross_attention.query.weight": scaled(f"{cross}.q.weight", root),
        "cross_attention.key_value.weight": joined(f"{cross}.k.weight", f"{cross}.v.weight"),
        "cross_attention.output.weight": same(f"{cross}.o.weight"),
        "cross_attention_norm.norm.weight": same("layer.1.layer_norm.weight"),
    }
    return {
        "self_attention.query_key_value.weight": joined(*(f"{own}.{name}.weight" for name in "qkv"), first_factor=root),
        "self_attention.output.weight": same(f"{own}.o.weight"),
        "self_attention_norm.norm.weight": same("layer.0.layer_norm.weight"),
        **(attention_to_source if side == "decoder" else {}),
        "feed_forward.inner.weight": joined(*(f"{last}.DenseReluDense.{name}.weight" for name in inner)),
        "feed_forward.outer.weight": same(f"{last}.DenseReluDense.wo.weight"),
        "feed_forward_norm.norm.weight": same(f"{last}.layer_norm.weight"),
    }
