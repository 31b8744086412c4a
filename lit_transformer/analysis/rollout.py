"""Attention rollout: how much of each input token is in each position, over all layers (Abnar and Zuidema 2020).

Each attention sub-layer adds what it attends to (here the mean of its heads) to what the position had before. Rollout
counts both as halves and multiplies the shares layer by layer. The paper describes encoders. Here a decoder layer is
two such steps: its self-attention, then its attention to the encoder's output. A model of one stack has the first only.

Feed-forward networks, norms and the size of values are ignored. So rollout describes the attention weights, not what
the model computed.

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
    """Shares of the input tokens in the positions after the last layer."""

    encoder_SS: Shares
    """Source tokens in the encoder's output. Rows sum to 1."""
    decoder_TT: Shares
    """Tokens of `target_input` in the decoder's output. The sums of a row here and in `cross_TS` add up to 1."""
    cross_TS: Shares
    """Source tokens in the decoder's output."""

    def of(self, kind: Kind) -> Shares:
        """The shares with the same rows and columns as the attention maps of a kind."""
        return {"encoder": self.encoder_SS, "decoder": self.decoder_TT, "cross": self.cross_TS}[kind]


def rollout(attention: Attention) -> Rollout:
    """Roll attention out over the layers of `attention`.

    Raises:
        UserError: If a layer is missing between the first and the last one.
    """
    layers = range(max(len(attention.encoder), len(attention.decoder)))
    for maps in (attention.encoder, attention.decoder, attention.cross):
        if maps and sorted(maps) != list(layers):
            raise UserError("rollout needs every layer from the first one on: record attention without choosing layers")
    encoder_SS = np.eye(len(attention.source))
    for layer in sorted(attention.encoder):
        encoder_SS = _half(encoder_SS, _mean_head(attention.encoder[layer]) @ encoder_SS)
    decoder_TT = np.eye(len(attention.target_input))
    cross_TS = np.zeros((len(attention.target_input), len(attention.source)))
    for layer in sorted(attention.decoder):
        self_TT = _mean_head(attention.decoder[layer])
        decoder_TT = _half(decoder_TT, self_TT @ decoder_TT)
        cross_TS = _half(cross_TS, self_TT @ cross_TS)
        if attention.cross:
            # The source takes half, so the share of the target is halved.
            attended_TS = _mean_head(attention.cross[layer])
            decoder_TT, cross_TS = decoder_TT / 2, _half(cross_TS, attended_TS @ encoder_SS)
    return Rollout(encoder_SS, decoder_TT, cross_TS)


def _mean_head(weights_HLM: Weights) -> Shares:
    mean_LM: Shares = weights_HLM.mean(axis=0, dtype=np.float64)
    return mean_LM


def _half(before: Shares, attended: Shares) -> Shares:
    return (before + attended) / 2
