"""BART of `transformers` (`model_type` bart)."""

from pathlib import Path

from lit_transformer.checkpoints.descendants import TrainedDescendant
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.pretrained.config import ACTIVATIONS, ForeignConfig
from lit_transformer.pretrained.marian import CROSS_ATTENTION, LAYER
from lit_transformer.pretrained.tokenizers import read_tokenizer
from lit_transformer.pretrained.weights import ForeignWeights, Recipe, both, both_joined, per_layer, same

OFFSET = 2
"""Their position 0 is in this row of the table. Nothing uses the rows before."""
EMBEDDING = "shared.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")
OUTPUT_BIAS = "final_logits_bias"


def load_bart(folder: Path, config: ForeignConfig) -> TrainedDescendant:
    """Read a BART with its vocabulary.

    Raises:
        UserError: If a file is missing, damaged, or has what this project does not.
    """
    weights = ForeignWeights(folder, prefix="model.")
    architecture = read_config(config, weights)
    vocab_size, pad_id = config.integer("vocab_size", 50265), config.integer("pad_token_id", 1)
    bart = config.empty(lambda: Transformer(architecture, vocab_size=vocab_size, pad_id=pad_id))
    weights.check_equal(EMBEDDING, COPIES)
    weights.load_into(bart, table(architecture))
    tokenizer, special = read_tokenizer(folder, config, vocab_size=vocab_size)
    return TrainedDescendant(bart, "bart", tokenizer, special, 0, folder)


def read_config(config: ForeignConfig, weights: ForeignWeights) -> TransformerConfig:
    """Their settings as ours. `transformers` also ignores the settings of other architectures that it once had."""
    config.only(is_encoder_decoder=True, is_decoder=False, tie_word_embeddings=True)
    return config.architecture(
        {
            "d_model": config.integer("d_model", 1024),
            "d_ff": config.equal("encoder_ffn_dim", "decoder_ffn_dim", 4096),
            "num_heads": config.equal("encoder_attention_heads", "decoder_attention_heads", 16),
            "num_layers": config.equal("encoder_layers", "decoder_layers", 12),
            "dropout": config.number("dropout", 0.1),
            "positions": "learned",
            "max_positions": config.integer("max_position_embeddings", 1024),
            "activation": config.choice("activation_function", ACTIVATIONS, "gelu"),
            "attention_bias": True,
            "embedding_norm": True,
            "scale_embedding": config.flag("scale_embedding", False),
            # `transformers` does not store it for all classes, and then it is zero.
            "output_bias": OUTPUT_BIAS in weights,
        },
        num_weights=len(weights),
    )


def table(config: TransformerConfig) -> dict[str, Recipe]:
    """Our names and theirs."""
    stacks: dict[str, Recipe] = {}
    # A layer of Marian is one of BART.
    for side, names in {"encoder": LAYER, "decoder": LAYER | CROSS_ATTENTION}.items():
        layer: dict[str, Recipe] = {}
        for ours, (_, theirs) in names.items():
            layer |= both_joined(ours, *theirs)
        positions = Recipe((f"{side}.embed_positions.weight",), lambda tensors: tensors[0][OFFSET:].clone())
        stacks |= {
            f"{side}.positions.table.weight": positions,
            **both(f"{side}.embedding_norm", f"{side}.layernorm_embedding"),
            **per_layer(config.num_layers, f"{side}.layers", f"{side}.layers", layer),
        }
    bias = {"output.bias": Recipe((OUTPUT_BIAS,), lambda tensors: tensors[0][0])} if config.output_bias else {}
    return {"embedding.weight": same(EMBEDDING), **bias, **stacks}
