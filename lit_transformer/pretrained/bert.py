"""BERT of `transformers` (`model_type` bert), with the head of its masked language model."""

from pathlib import Path

from lit_transformer.checkpoints.descendants import TrainedDescendant
from lit_transformer.model.bert import BERT
from lit_transformer.model.config import TransformerConfig
from lit_transformer.pretrained.config import ACTIVATIONS, ForeignConfig
from lit_transformer.pretrained.tokenizers import read_tokenizer
from lit_transformer.pretrained.weights import ForeignWeights, Recipe, both, both_joined, per_layer, same

DECODER = "cls.predictions.decoder"
IGNORED = ("pooler.*", "cls.seq_relationship.*", "embeddings.position_ids", "cls.predictions.bias")
"""What predicts whether one sentence follows another, the numbers 0, 1, 2, ..., and the bias of a tied output, which
models with an output of their own store as well."""
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


def load_bert(folder: Path, config: ForeignConfig) -> TrainedDescendant:
    """Read a BERT with its vocabulary.

    Raises:
        UserError: If a file is missing, damaged, or has what this project does not.
    """
    weights = ForeignWeights(folder, prefix="bert.")
    weights.rename(OLD_NAMES)
    architecture = read_config(config, num_weights=len(weights))
    vocab_size, pad_id = config.integer("vocab_size", 30522), config.integer("pad_token_id", 0)
    num_segments = config.integer("type_vocab_size", 2)
    bert = config.empty(lambda: BERT(architecture, vocab_size=vocab_size, pad_id=pad_id, num_segments=num_segments))
    if architecture.tied_output:
        weights.check_equal("embeddings.word_embeddings.weight", [f"{DECODER}.weight"])
        weights.check_equal("cls.predictions.bias", [f"{DECODER}.bias"])
    weights.load_into(bert, table(architecture), ignored=IGNORED)
    tokenizer, special = read_tokenizer(folder, config, vocab_size=bert.vocab_size)
    return TrainedDescendant(bert, "bert", tokenizer, special, 0, folder)


def read_config(config: ForeignConfig, *, num_weights: int) -> TransformerConfig:
    """Their settings as ours."""
    config.only(is_decoder=False, add_cross_attention=False, position_embedding_type="absolute")
    return config.architecture(
        {
            "d_model": config.integer("hidden_size", 768),
            "d_ff": config.integer("intermediate_size", 3072),
            "num_heads": config.integer("num_attention_heads", 12),
            "num_layers": config.integer("num_hidden_layers", 12),
            "dropout": config.number("hidden_dropout_prob", 0.1),
            "positions": "learned",
            "max_positions": config.integer("max_position_embeddings", 512),
            "activation": config.choice("hidden_act", ACTIVATIONS, "gelu"),
            "attention_bias": True,
            "norm_epsilon": config.number("layer_norm_eps", 1e-12),
            "embedding_norm": True,
            "scale_embedding": False,
            "tied_output": config.flag("tie_word_embeddings", True),
            "output_bias": True,
        },
        num_weights=num_weights,
    )


def table(config: TransformerConfig) -> dict[str, Recipe]:
    """Our names and theirs."""
    projections = (f"attention.self.{name}" for name in ("query", "key", "value"))
    layer = {
        **both_joined("self_attention.query_key_value", *projections),
        **both("self_attention.output", "attention.output.dense"),
        **both("self_attention_norm.norm", "attention.output.LayerNorm"),
        **both("feed_forward.inner", "intermediate.dense"),
        **both("feed_forward.outer", "output.dense"),
        **both("feed_forward_norm.norm", "output.LayerNorm"),
    }
    return {
        "embedding.weight": same("embeddings.word_embeddings.weight"),
        "segment_embedding.weight": same("embeddings.token_type_embeddings.weight"),
        "stack.positions.table.weight": same("embeddings.position_embeddings.weight"),
        **both("stack.embedding_norm", "embeddings.LayerNorm"),
        **per_layer(config.num_layers, "stack.layers", "encoder.layer", layer),
        **both("head", "cls.predictions.transform.dense"),
        **both("head_norm", "cls.predictions.transform.LayerNorm"),
        **({"output.bias": same("cls.predictions.bias")} if config.tied_output else both("output", DECODER)),
    }
