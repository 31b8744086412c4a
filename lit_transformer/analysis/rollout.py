"""Attention rollout: where what stands at a position comes from, over all layers (Abnar and Zuidema 2020).

Each sub-layer adds what it attends to, the mean of its heads, to what was there; rollout takes both for halves and
multiplies layer by layer. The paper has encoders only. Here a decoder layer is two such steps, its self-attention and
then its look at the encoder's output. Feed-forward networks, norms and the size of values are left out: rollout is a
picture of the attention weights, not of what the model computed.

Legend: S source length, T target length, H heads, L query length, M key length.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lit_transformer.analysis.maps import Kind
from lit_transformer.decoding.attention import Attention, Weights
from lit_transformer.errors import UserError

Shares = NDArray[np.float64]


class Rollout(NamedTuple):
    """Shares of the input pieces in the last layer's positions."""

    encoder_SS: Shares
    """Source pieces in the encoder's output; rows sum to 1."""
    decoder_TT: Shares
    """`target_input` in the decoder's output; a row sums to 1 together with its row of `cross_TS`."""
    cross_TS: Shares
    """Source pieces in the decoder's output."""

    def of(self, kind: Kind) -> Shares:
        """The shares whose rows and columns are those of the attention maps of a kind."""
        return {"encoder": self.encoder_SS, "decoder": self.decoder_TT, "cross": self.cross_TS}[kind]


def rollout(attention: Attention) -> Rollout:
    """Roll attention out from the first layer on; all layers up to the last wanted one must be there."""
    layers = range(len(attention.encoder))
    for maps in (attention.encoder, attention.decoder, attention.cross):
        if sorted(maps) != list(layers):
            raise UserError("rollout needs every layer from the first one on: ask for attention without naming layers")
    encoder_SS = np.eye(len(attention.source))
    for layer in layers:
        encoder_SS = _half(encoder_SS, _mean_head(attention.encoder[layer]) @ encoder_SS)
    decoder_TT = np.eye(len(attention.target_input))
    cross_TS = np.zeros((len(attention.target_input), len(attention.source)))
    for layer in layers:
        self_TT, looked_TS = _mean_head(attention.decoder[layer]), _mean_head(attention.cross[layer])
        decoder_TT = _half(decoder_TT, self_TT @ decoder_TT)
        cross_TS = _half(cross_TS, self_TT @ cross_TS)
        # What comes from the source halves the target's share.
        decoder_TT, cross_TS = decoder_TT / 2, _half(cross_TS, looked_TS @ encoder_SS)
    return Rollout(encoder_SS, decoder_TT, cross_TS)


def _mean_head(weights_HLM: Weights) -> Shares:
    mean_LM: Shares = weights_HLM.mean(axis=0, dtype=np.float64)
    return mean_LM


def _half(before: Shares, attended: Shares) -> Shares:
    return (before + attended) / 2
