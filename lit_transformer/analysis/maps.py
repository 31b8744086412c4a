"""The three kinds of attention maps, and what stands at their rows and columns.

People count layers and heads from 1: so do titles, the page and the verb. Python counts from 0, as `Attention` does.

Legend: H heads, L query length, M key length.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from lit_transformer.decoding.attention import Attention, Weights
from lit_transformer.errors import UserError

Kind = Literal["encoder", "decoder", "cross"]
KINDS: tuple[Kind, ...] = ("encoder", "decoder", "cross")
WORD_BEGIN = "\u2581"
"""SentencePiece's mark in a piece with which a word begins."""


class Maps(NamedTuple):
    """The maps of one kind: H x L x M weights for each layer, L queries that look and M keys that they look at."""

    layers: Mapping[int, Weights]
    queries: list[str]
    keys: list[str]


def maps_of(attention: Attention, kind: Kind) -> Maps:
    """The maps of one kind with their pieces.

    A row of the cross attention stands for what the decoder says there, a row of its self-attention for what it reads.
    """
    if not attention.encoder:
        raise UserError("there are no maps: ask for the attention of at least one layer")
    if kind == "encoder":
        return Maps(attention.encoder, attention.source, attention.source)
    if kind == "decoder":
        return Maps(attention.decoder, attention.target_input, attention.target_input)
    return Maps(attention.cross, attention.target_output, attention.source)


def layer_of(attention: Attention, kind: Kind, layer: int) -> Weights:
    """H x L x M weights of one layer, which counts from 0."""
    layers = maps_of(attention, kind).layers
    if layer not in layers:
        raise UserError(f"there is no layer {layer + 1}: the maps are of layer {_listed(layers)}, counted from 1")
    return layers[layer]


def head_of(attention: Attention, kind: Kind, layer: int, head: int) -> Weights:
    """L x M weights of one head; layers and heads count from 0."""
    heads = layer_of(attention, kind, layer)
    if not 0 <= head < len(heads):
        raise UserError(f"there is no head {head + 1}: layer {layer + 1} has {len(heads)}, counted from 1")
    return heads[head]


def as_json(attention: Attention, *, digits: int) -> dict[str, dict[str, Any]]:
    """The maps of every kind as JSON can hold them.

    `encoder`, `decoder` and `cross` each have `queries` and `keys`, the L and M pieces, `layers`, the layers' numbers
    counted from 1, and `weights`: a list for each of these layers, of a list for each head, of L rows of M numbers.
    """
    return {
        kind: {
            "queries": maps.queries,
            "keys": maps.keys,
            "layers": [layer + 1 for layer in maps.layers],
            "weights": [weights_HLM.astype(np.float64).round(digits).tolist() for weights_HLM in maps.layers.values()],
        }
        for kind, maps in ((kind, maps_of(attention, kind)) for kind in KINDS)
    }


def _listed(layers: Mapping[int, Weights]) -> str:
    return ", ".join(str(layer + 1) for layer in layers)
