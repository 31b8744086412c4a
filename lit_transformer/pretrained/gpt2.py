"""GPT-2 of `transformers` (`model_type` gpt2)."""

from pathlib import Path

from lit_transformer.checkpoints.descendants import TrainedDescendant
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.gpt import GPT
from lit_transformer.pretrained.config import ACTIVATIONS, ForeignConfig
from lit_transformer.pretrained.tokenizers import read_tokenizer
from lit_transformer.pretrained.weights import ForeignWeights, Recipe, both, per_layer, same, transposed

MASKS = ("h.*.attn.bias", "h.*.attn.masked_bias")
"""Tensors that older versions stored: they are the causal mask, and its value for what may not be attended to."""


def load_gpt2(folder: Path, config: ForeignConfig) -> TrainedDescendant:
    """Read a GPT-2 with its vocabulary.

    Raises:
        UserError: If a file is missing, damaged, or has what this project does not.
    """
    weights = ForeignWeights(folder, prefix="transformer.")
    architecture = read_config(config, num_weights=len(weights))
    vocab_size = config.integer("vocab_size", 50257)
    gpt = config.empty(lambda: GPT(architecture, vocab_size=vocab_size))
    if architecture.tied_output:
        weights.check_equal("wte.weight", ["lm_head.weight"])
    weights.load_into(gpt, table(architecture), ignored=MASKS)
    tokenizer, special = read_tokenizer(folder, config, vocab_size=gpt.vocab_size)
    return TrainedDescendant(gpt, "gpt", tokenizer, special, 0, folder)


def read_config(config: ForeignConfig, *, num_weights: int) -> TransformerConfig:
    """Their settings as ours."""
    config.only(scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    d_model = config.integer("n_embd", 768)
    return config.architecture(
        {
            "d_model": d_model,
            "d_ff": config.integer("n_inner", 4 * d_model) if config.has("n_inner") else 4 * d_model,
            "num_heads": config.integer("n_head", 12),
            "num_layers": config.integer("n_layer", 12),
            "dropout": config.number("resid_pdrop", 0.1),
            "norm": "pre",
            "positions": "learned",
            "max_positions": config.integer("n_positions", 1024),
            "activation": config.choice("activation_function", ACTIVATIONS, "gelu_new"),
            "attention_bias": True,
            "norm_epsilon": config.number("layer_norm_epsilon", 1e-5),
            "scale_embedding": False,
            "tied_output": config.flag("tie_word_embeddings", True),
        },
        num_weights=num_weights,
    )


def table(config: TransformerConfig) -> dict[str, Recipe]:
    """Our names and theirs. Their linear layers are `Conv1D`, whose matrices are transposed."""
    layer = {
        **both("self_attention_norm.norm", "ln_1"),
        **conv("self_attention.query_key_value", "attn.c_attn"),
        **conv("self_attention.output", "attn.c_proj"),
        **both("feed_forward_norm.norm", "ln_2"),
        **conv("feed_forward.inner", "mlp.c_fc"),
        **conv("feed_forward.outer", "mlp.c_proj"),
    }
    return {
        "embedding.weight": same("wte.weight"),
        "stack.positions.table.weight": same("wpe.weight"),
        **per_layer(config.num_layers, "stack.layers", "h", layer),
        **both("stack.norm", "ln_f"),
        **({} if config.tied_output else {"output.weight": same("lm_head.weight")}),
    }


def conv(ours: str, theirs: str) -> dict[str, Recipe]:
    """Weight and bias of a `Conv1D`."""
    return {f"{ours}.weight": transposed(f"{theirs}.weight"), f"{ours}.bias": same(f"{theirs}.bias")}
