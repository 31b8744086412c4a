"""Position schemes: how a model without recurrence represents order (section 3.5), and four later schemes.

A scheme overrides one of three hooks: what is added to the embeddings, how queries and keys are rotated, or what is
added to the scores of self-attention. Positions count tokens from 0. `position_BL` has a single row if all rows share
them.

Legend: B batch, L query length, M key length, D d_model, H heads, K head dimension.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from lit_transformer.model.attention import Rotation
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.masks import Mask


class Positions(nn.Module):
    """No positions at all, and the interface of every scheme."""

    longest: int | None = None
    """The number of positions that there are. None if there is no limit."""

    def embed(self, vectors_BLD: Tensor, position_BL: Tensor) -> Tensor:  # noqa: ARG002 # for schemes
        """Embeddings with positions added."""
        return vectors_BLD

    def rotation(self, position_BL: Tensor) -> Rotation | None:  # noqa: ARG002 # for schemes
        """What rotates queries and keys of self-attention by their positions, in every layer. None rotates nothing."""
        return None

    def add_bias(self, mask: Mask) -> Mask:
        """The mask of self-attention, with what the scheme adds to the scores."""
        return mask


def frequencies(size: int, device: torch.device, base: float = 10000.0) -> Tensor:
    """1 / base^(2i / size) for i = 0 .. size/2 - 1. The paper's base is 10000 (section 3.5)."""
    return base ** (-torch.arange(0, size, 2, dtype=torch.float32, device=device) / size)


def sinusoids(position_BL: Tensor, d_model: int) -> Tensor:
    """Sine in the even and cosine in the odd dimensions, B x L x D (section 3.5).

    A position has d_model numbers, whatever the shape of `position_BL`: `sinusoids(torch.arange(100), 512)` is a table.
    """
    angle = position_BL[..., None] * frequencies(d_model, position_BL.device)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)


class SinusoidalPositions(Positions):
    """Fixed sinusoids added to the embeddings (section 3.5)."""

    def embed(self, vectors_BLD: Tensor, position_BL: Tensor) -> Tensor:
        return vectors_BLD + sinusoids(position_BL, vectors_BLD.shape[-1]).to(vectors_BLD.dtype)


class LearnedPositions(Positions):
    """One learned vector per position, added to the embeddings (Table 3, row E)."""

    def __init__(self, d_model: int, max_positions: int) -> None:
        super().__init__()
        self.longest = max_positions
        self.table = nn.Embedding(max_positions, d_model)
        nn.init.normal_(self.table.weight, std=d_model**-0.5)

    def embed(self, vectors_BLD: Tensor, position_BL: Tensor) -> Tensor:
        return vectors_BLD + self.table(position_BL)


class RotaryPositions(Positions):
    """Queries and keys rotated pairwise by angles that grow with the position (Su et al. 2021, equation 34).

    The score of two rotated vectors depends on the distance of their positions alone.

    Args:
        key_size: Width of a head.
        base: Base of the wavelengths.
        scaling: Positions are divided by it.
    """

    def __init__(self, key_size: int, base: float, scaling: float) -> None:
        super().__init__()
        self.key_size, self.base, self.scaling = key_size, base, scaling

    def rotation(self, position_BL: Tensor) -> Rotation:
        scaled_BL = position_BL / self.scaling
        angle_BLK = scaled_BL[..., None] * frequencies(self.key_size, position_BL.device, self.base)
        angle_B1LK = angle_BLK[:, None]
        cosine_B1LK, sine_B1LK = angle_B1LK.cos(), angle_B1LK.sin()

        def rotate(heads_BHLK: Tensor) -> Tensor:
            cosine, sine = cosine_B1LK.to(heads_BHLK.dtype), sine_B1LK.to(heads_BHLK.dtype)
            even, odd = heads_BHLK[..., 0::2], heads_BHLK[..., 1::2]
            return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)

        return rotate


def alibi_slopes(num_heads: int, device: torch.device) -> Tensor:
    """The geometric sequence of slopes, one for each head (Press et al. 2022, section 3), in float32.

    Powers of two give 2^(-8/n), 2^(-16/n), ... Other counts take the slopes of the next lower power of two, then every
    second slope of twice that power.

    They are computed on the device, because copying them from the host would make every step wait. They are no buffer,
    because a buffer is cast together with the weights, and bfloat16 cannot hold them.
    """
    power = 1 << (num_heads.bit_length() - 1)
    head_H = torch.arange(num_heads, dtype=torch.float32, device=device)
    exponent_H = torch.where(head_H < power, 8 * (head_H + 1), 4 * (2 * (head_H - power) + 1))
    return torch.exp2(exponent_H / -power)


class AlibiPositions(Positions):
    """A penalty on every score that grows with the distance (Press et al. 2022).

    The encoder attends both ways, so its distance is the absolute difference.
    """

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def add_bias(self, mask: Mask) -> Mask:
        return replace(mask, distance_bias=self.distance_bias)

    def distance_bias(self, distance_LM: Tensor) -> Tensor:
        """Minus slope times distance, H x L x M."""
        return -alibi_slopes(self.num_heads, distance_LM.device)[:, None, None] * distance_LM.abs()


class RelativePositions(Positions):
    """One learned bias per head for each bucket of distances (Raffel et al. 2020, section 2.1).

    Small distances have a bucket each. Larger ones share buckets, whose width grows with the logarithm of the distance.

    Args:
        config: The architecture.
        causal: Whether no query attends to later keys. If one may, half of the buckets are for these.
    """

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.most_distant = config.relative_distance
        self.table = nn.Embedding(config.relative_buckets, config.num_heads)
        nn.init.normal_(self.table.weight, std=config.d_model**-0.5)

    def add_bias(self, mask: Mask) -> Mask:
        return replace(mask, distance_bias=self.distance_bias)

    def distance_bias(self, distance_LM: Tensor) -> Tensor:
        """The biases of all heads, H x L x M."""
        return self.table(self.buckets(distance_LM)).permute(2, 0, 1)

    def buckets(self, distance_LM: Tensor) -> Tensor:
        """The bucket of each distance, query position minus key position."""
        num_buckets, first = self.table.num_embeddings, torch.zeros_like(distance_LM, dtype=torch.int64)
        if self.causal:
            distance_LM = distance_LM.clamp(min=0)
        else:
            num_buckets //= 2
            first = (distance_LM < 0) * num_buckets
            distance_LM = distance_LM.abs()
        exact = num_buckets // 2
        share_LM = (distance_LM.clamp(min=exact) / exact).log() / math.log(self.most_distant / exact)
        shared_LM = (exact + (share_LM * (num_buckets - exact)).long()).clamp(max=num_buckets - 1)
        return first + torch.where(distance_LM < exact, distance_LM.long(), shared_LM)


def make_positions(config: TransformerConfig, *, causal: bool = False) -> Positions:
    """The scheme that the configuration names.

    Args:
        config: The architecture.
        causal: Whether the stack is causal, as a decoder.
    """
    match config.positions:
        case "sinusoidal":
            return SinusoidalPositions()
        case "learned":
            return LearnedPositions(config.d_model, config.max_positions)
        case "rotary":
            return RotaryPositions(config.key_size, config.rotary_base, config.rotary_scaling)
        case "alibi":
            return AlibiPositions(config.num_heads)
        case "relative":
            return RelativePositions(config, causal=causal)
        case "none":
            return Positions()
