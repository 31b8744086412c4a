"""The three kinds of attention maps, and the tokens of their rows and columns. A model of one stack has one kind.

Layers and heads count from 0 in Python, and from 1 wherever people read them: titles, the page, options and messages.

Legend: H heads, L query length, M key length.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lit_transformer.decoding.attention import BOS, EOS, Attention, Weights
from lit_transformer.errors import UserError

Kind = Literal["encoder", "decoder", "cross"]
KINDS: tuple[Kind, ...] = ("encoder", "decoder", "cross")
WORD_BEGIN = "\u2581"
"""SentencePiece's mark in a token that begins a word."""
SPECIAL_TOKENS = {
    *(BOS, EOS, "<pad>", "<mask>", "<|endoftext|>"),
    *("[CLS]", "[SEP]", "[MASK]", "[PAD]", "[UNK]"),
}
"""Tokens that are no part of a word."""
_AROUND = {BOS, EOS, "<|endoftext|>", "[CLS]", "[SEP]"}
"""Special tokens that are no part of a sentence."""
_EXTRA_ID = re.compile(r"<extra_id_\d+>")
_BYTES = re.compile("(?:<0x[0-9A-F]{2}>)+")
_UNKNOWN = re.compile("<unk:(.+?)>")


class Maps(NamedTuple):
    """The maps of one kind: H x L x M weights for each layer, and the tokens of the L queries and M keys."""

    layers: Mapping[int, Weights]
    queries: list[str]
    keys: list[str]


def maps_of(attention: Attention, kind: Kind) -> Maps:
    """The maps of one kind with their tokens.

    A row of the cross-attention is named by the token that the decoder predicts there, a row of the decoder's
    self-attention by the token that it reads there.

    Raises:
        UserError: If `attention` has no layers, or the model has no such kind.
    """
    kinds = kinds_of(attention)
    if kind not in kinds:
        raise UserError(f"kind is {kind}, but this model has {' and '.join(kinds)} only")
    if kind == "encoder":
        return Maps(attention.encoder, attention.source, attention.source)
    if kind == "decoder":
        return Maps(attention.decoder, attention.target_input, attention.target_input)
    return Maps(attention.cross, attention.target_output, attention.source)


def kinds_of(attention: Attention) -> tuple[Kind, ...]:
    """The kinds that there are maps of. Raises UserError if `attention` has no layers."""
    kinds = tuple(kind for kind in KINDS if getattr(attention, kind))
    if not kinds:
        raise UserError("there are no attention maps: choose at least one layer")
    return kinds


def texts_of(attention: Attention) -> dict[str, str]:
    """What was read and written, by name: `source` and `target`, or one `text` if the model has one stack."""
    if attention.source and attention.target_input:
        return {"source": sentence_text(attention.source), "target": sentence_text(attention.target_output)}
    return {"text": sentence_text(attention.source or attention.target_input)}


def is_special(token: str) -> bool:
    """Whether a token stands for something else than text."""
    return token in SPECIAL_TOKENS or _EXTRA_ID.fullmatch(token) is not None


def layer_of(attention: Attention, kind: Kind, layer: int) -> Weights:
    """The weights of one layer, H x L x M. Raises UserError if there is no such layer."""
    layers = maps_of(attention, kind).layers
    if layer not in layers:
        raise UserError(f"there is no layer {layer + 1}: the maps are of layer {_listed(layers)}, counted from 1")
    return layers[layer]


def head_of(attention: Attention, kind: Kind, layer: int, head: int) -> Weights:
    """The weights of one head, L x M. Raises UserError if there is no such layer or head."""
    heads = layer_of(attention, kind, layer)
    if not 0 <= head < len(heads):
        raise UserError(f"there is no head {head + 1}: layer {layer + 1} has {len(heads)}, counted from 1")
    return heads[head]


def word_text(tokens: Sequence[str]) -> str:
    """The tokens of a word as text. An unknown token stays `<unk:😀>`. Tokens for single bytes become characters."""
    text = "".join(tokens).replace(WORD_BEGIN, " ").strip()
    return _BYTES.sub(lambda run: bytes.fromhex(re.sub("<0x|>", "", run.group())).decode("utf-8", "replace"), text)


def sentence_text(tokens: Sequence[str]) -> str:
    """The tokens or words of a sentence as text, without those around it. Unknown tokens become their characters."""
    inner = [_UNKNOWN.sub(r"\1", token) for token in tokens if token not in _AROUND]
    is_tokens = any(token.startswith(WORD_BEGIN) for token in inner)
    return word_text(inner) if is_tokens else " ".join(inner)


def as_json(attention: Attention, *, digits: int) -> dict[str, Any]:
    """The maps of every kind as lists and dictionaries for JSON.

    `source` and `target` are the sentence pair as text. A model of one stack has `text`. Each of `encoder`, `decoder`
    and `cross` that the model has is a dictionary with:

    - `queries` and `keys`: the L and the M tokens;
    - `layers`: the numbers of the layers, counted from 1;
    - `weights`: for each of these layers, a list of heads, each a list of L rows of M numbers.
    """
    return texts_of(attention) | {
        kind: {
            "queries": maps.queries,
            "keys": maps.keys,
            "layers": [layer + 1 for layer in maps.layers],
            "weights": [weights_HLM.astype(np.float64).round(digits).tolist() for weights_HLM in maps.layers.values()],
        }
        for kind, maps in ((kind, maps_of(attention, kind)) for kind in kinds_of(attention))
    }


def _listed(layers: Mapping[int, Weights]) -> str:
    return ", ".join(str(layer + 1) for layer in layers)
