"""Marian, the Transformer of OPUS-MT in Hugging Face's `transformers`: its names of weights and its order of features.

Marian is the paper's Transformer with biases in its attention and on its logits. Its sinusoids have all sines before
all cosines, and ours have them by turns. The order of the d_model features means nothing to the rest of a Transformer.
So a model with one order becomes a model with the other if all weights over these features are reordered.
"""

import re
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor

from lit_transformer.model.config import TransformerConfig
from lit_transformer.pretrained.weights import Recipe

Features = dict[str, int | None]
"""The tensors of a module, and which of their dimensions are d_model features."""
READS: Features = {"weight": 1, "bias": None}
WRITES: Features = {"weight": 0, "bias": 0}
EMBEDS: Features = {"weight": 1}
Names = dict[str, tuple[Features, tuple[str, ...]]]
"""Our modules. Each is one of Marian's modules, or several whose outputs it has one after the other."""

LAYER: Names = {
    "self_attention.query_key_value": (READS, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    "self_attention.output": (WRITES, ("self_attn.out_proj",)),
    "self_attention_norm.norm": (WRITES, ("self_attn_layer_norm",)),
    "feed_forward.inner": (READS, ("fc1",)),
    "feed_forward.outer": (WRITES, ("fc2",)),
    "feed_forward_norm.norm": (WRITES, ("final_layer_norm",)),
}
CROSS_ATTENTION: Names = {
    "cross_attention.query": (READS, ("encoder_attn.q_proj",)),
    "cross_attention.key_value": (READS, ("encoder_attn.k_proj", "encoder_attn.v_proj")),
    "cross_attention.output": (WRITES, ("encoder_attn.out_proj",)),
    "cross_attention_norm.norm": (WRITES, ("encoder_attn_layer_norm",)),
}
"""What a layer of the decoder has besides."""
SHARED_EMBEDDING: Names = {"embedding": (EMBEDS, ("model.shared",))}
TWO_EMBEDDINGS: Names = {
    "source_embedding": (EMBEDS, ("model.encoder.embed_tokens",)),
    "embedding": (EMBEDS, ("model.decoder.embed_tokens",)),
}
SEARCH_FILE, TOKENIZER_FILE = "generation_config.json", "tokenizer_config.json"
SENTENCEPIECE_FILES = ("source.spm", "target.spm")
TABLE_FILES = ("vocab.json", "target_vocab.json")
"""Ids of tokens. The second file is there if the sides have different tokens."""
LANGUAGE_CODE = re.compile(">>.+<<")
"""A token that begins a source and names the language of the target. Marian's tokenizer takes it from the text."""
OUTPUT_BIAS, THEIR_OUTPUT_BIAS = "output.bias", "final_logits_bias"
"""Theirs is a matrix of one row."""


def names(config: TransformerConfig, *, is_shared: bool) -> Names:
    """All modules of a model.

    Args:
        config: The architecture.
        is_shared: Whether both sides share one vocabulary.
    """
    modules = dict(SHARED_EMBEDDING if is_shared else TWO_EMBEDDINGS)
    for side, layer in {"encoder": LAYER, "decoder": LAYER | CROSS_ATTENTION}.items():
        for number in range(config.num_layers):
            for ours, (features, theirs) in layer.items():
                their_names = tuple(f"model.{side}.layers.{number}.{name}" for name in theirs)
                modules[f"{side}.layers.{number}.{ours}"] = (features, their_names)
    return modules


def to_marian(weights: Mapping[str, Tensor], config: TransformerConfig) -> dict[str, Tensor]:
    """Give the weights of a `Transformer` Marian's names and order. Biases that ours does not have are zero.

    Args:
        weights: The weights by our names.
        config: The architecture, which Marian must have.
    """
    converted: dict[str, Tensor] = {}
    for ours, (features, theirs) in names(config, is_shared="source_embedding.weight" not in weights).items():
        for kind, dimension in features.items():
            tensor = weights.get(f"{ours}.{kind}")
            if tensor is None:
                tensor = torch.zeros_like(weights[f"{ours}.weight"][:, 0])
            parts = to_halves(tensor, dimension).chunk(len(theirs))
            converted |= {f"{name}.{kind}": part for name, part in zip(theirs, parts, strict=True)}
    bias = weights.get(OUTPUT_BIAS)
    converted[THEIR_OUTPUT_BIAS] = (torch.zeros_like(weights["embedding.weight"][:, 0]) if bias is None else bias)[None]
    return converted


def table(config: TransformerConfig, *, is_shared: bool) -> dict[str, Recipe]:
    """How the weights of ours are made of Marian's. Ours then has all of Marian's biases.

    Args:
        config: The architecture.
        is_shared: Whether both sides share one vocabulary.
    """
    recipes = {OUTPUT_BIAS: Recipe((THEIR_OUTPUT_BIAS,), lambda tensors: tensors[0][0])}
    for ours, (features, theirs) in names(config, is_shared=is_shared).items():
        for kind, dimension in features.items():
            their_names = tuple(f"{name}.{kind}" for name in theirs)
            recipes[f"{ours}.{kind}"] = Recipe(their_names, partial(_join, dimension=dimension))
    return recipes


def to_halves(tensor: Tensor, dimension: int | None) -> Tensor:
    """Reorder features by turns (sine, cosine, sine, ...) into halves (sines, then cosines)."""
    return tensor if dimension is None else _transpose(tensor, dimension, (-1, 2))


def to_turns(tensor: Tensor, dimension: int | None) -> Tensor:
    """Undo `to_halves`."""
    return tensor if dimension is None else _transpose(tensor, dimension, (2, -1))


def _transpose(tensor: Tensor, dimension: int, shape: tuple[int, int]) -> Tensor:
    return tensor.unflatten(dimension, shape).transpose(dimension, dimension + 1).flatten(dimension, dimension + 1)


def _join(tensors: list[Tensor], dimension: int | None) -> Tensor:
    return to_turns(torch.cat(tensors), dimension)
