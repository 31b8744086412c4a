"""ViT of `transformers` (`model_type` vit), with a classifier."""

from pathlib import Path
from typing import Any

from lit_transformer.checkpoints.descendants import TrainedDescendant
from lit_transformer.data.text_tokenizer import SpecialIds
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.vit import ViT
from lit_transformer.pretrained.config import ACTIVATIONS, ForeignConfig
from lit_transformer.pretrained.weights import ForeignWeights, Recipe, both, both_joined, per_layer

IGNORED = ("pooler.*",)
"""A layer that classifiers do not use."""
CLASSIFIER = "classifier"


def load_vit(folder: Path, config: ForeignConfig) -> TrainedDescendant:
    """Read a ViT with the names of its classes.

    Raises:
        UserError: If a file is missing, damaged, or has what this project does not.
    """
    weights = ForeignWeights(folder, prefix="vit.")
    architecture = read_config(config, num_weights=len(weights))
    num_classes = weights.num_rows(f"{CLASSIFIER}.weight")
    image_size, patch_size = config.integer("image_size", 224), config.integer("patch_size", 16)
    num_channels = config.integer("num_channels", 3)
    vit = config.empty(
        lambda: ViT(
            architecture,
            image_size=image_size,
            patch_size=patch_size,
            num_channels=num_channels,
            num_classes=num_classes,
        )
    )
    weights.load_into(vit, table(architecture), ignored=IGNORED)
    names: dict[str, Any] = config.strings("id2label", {})
    classes = tuple(names.get(str(number), str(number)) for number in range(num_classes))
    return TrainedDescendant(vit, "vit", None, SpecialIds(None, None, None, None), 0, folder, classes)


def read_config(config: ForeignConfig, *, num_weights: int) -> TransformerConfig:
    """Their settings as ours."""
    config.only(qkv_bias=True)
    return config.architecture(
        {
            "d_model": config.integer("hidden_size", 768),
            "d_ff": config.integer("intermediate_size", 3072),
            "num_heads": config.integer("num_attention_heads", 12),
            "num_layers": config.integer("num_hidden_layers", 12),
            "dropout": config.number("hidden_dropout_prob", 0.0),
            "norm": "pre",
            "positions": "learned",
            "activation": config.choice("hidden_act", ACTIVATIONS, "gelu"),
            "attention_bias": True,
            "norm_epsilon": config.number("layer_norm_eps", 1e-12),
        },
        num_weights=num_weights,
    )


def table(config: TransformerConfig) -> dict[str, Recipe]:
    """Our names and theirs."""
    projections = (f"attention.attention.{name}" for name in ("query", "key", "value"))
    layer = {
        **both("self_attention_norm.norm", "layernorm_before"),
        **both_joined("self_attention.query_key_value", *projections),
        **both("self_attention.output", "attention.output.dense"),
        **both("feed_forward_norm.norm", "layernorm_after"),
        **both("feed_forward.inner", "intermediate.dense"),
        **both("feed_forward.outer", "output.dense"),
    }
    return {
        **both("patches", "embeddings.patch_embeddings.projection"),
        "class_vector": Recipe(("embeddings.cls_token",), lambda tensors: tensors[0][0, 0]),
        "stack.positions.table.weight": Recipe(("embeddings.position_embeddings",), lambda tensors: tensors[0][0]),
        **per_layer(config.num_layers, "stack.layers", "encoder.layer", layer),
        **both("stack.norm", "layernorm"),
        **both("head", CLASSIFIER),
    }
