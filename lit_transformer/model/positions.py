"""How a model without recurrence learns of order (section 3.5), and three later answers.

A scheme overrides one of three hooks: what is added to the embeddings, what is done to queries and keys, or the mask
of self-attention, which says what is added to its scores. Positions count tokens from 0; `start` is the position of
the first one given.

Legend: B batch, L query length, M key length, D d_model, H heads, K head dimension.
"""

import torch
from torch import Tensor, nn

from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.masks import Mask


class Positions(nn.Module):
    """No positions at all, and the interface of every scheme."""

    def embed(self, states_BLD: Tensor, start: int) -> Tensor:
        """Embeddings with positions added."""
        return states_BLD

    def rotate(self, heads_BHLK: Tensor, start: int) -> Tensor:
        """Queries or keys of self-attention, turned by their positions."""
        return heads_BHLK

    def mask(self, *, causal: bool, keys_BM: Tensor | None = None) -> Mask:
        """The mask of self-attention, with what the scheme adds to the scores."""
        return Mask(causal=causal, keys_BM=keys_BM)


def frequencies(size: int, device: torch.device) -> Tensor:
    """1 / 10000^(2i / size) for i = 0 .. size/2 - 1 (section 3.5)."""
    return 10000.0 ** (-torch.arange(0, size, 2, dtype=torch.float32, device=device) / size)


def sinusoids(start: int, length: int, d_model: int, device: torch.device) -> Tensor:
    """Sine in the even and cosine in the odd dimensions, length x d_model (section 3.5)."""
    position_L = torch.arange(start, start + length, dtype=torch.float32, device=device)
    angle = position_L[:, None] * frequencies(d_model, device)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


class SinusoidalPositions(Positions):
    """Fixed sinusoids added to the embeddings (section 3.5)."""

    def embed(self, states_BLD: Tensor, start: int) -> Tensor:
        _, length, d_model = states_BLD.shape
        return states_BLD + sinusoids(start, length, d_model, states_BLD.device).to(states_BLD.dtype)


class LearnedPositions(Positions):
    """One learned vector a position, added to the embeddings (Table 3, row E)."""

    def __init__(self, d_model: int, max_positions: int) -> None:
        super().__init__()
        self.table = nn.Embedding(max_positions, d_model)
        nn.init.normal_(self.table.weight, std=d_model**-0.5)

    def embed(self, states_BLD: Tensor, start: int) -> Tensor:
        end = start + states_BLD.shape[1]
        if end > self.table.num_embeddings:
            raise UserError(
                f"a sequence of {end} pieces is longer than transformer.max_positions "
                f"{self.table.num_embeddings}: shorten it, or train with more positions or another scheme"
            )
        return states_BLD + self.table.weight[start:end]


class RotaryPositions(Positions):
    """Queries and keys turned pairwise by angles that grow with the position (Su et al. 2021, equation 34).

    The score of two turned vectors depends on the distance of their positions alone.
    """

    def rotate(self, heads_BHLK: Tensor, start: int) -> Tensor:
        length, size = heads_BHLK.shape[-2:]
        device = heads_BHLK.device
        position_L = torch.arange(start, start + length, dtype=torch.float32, device=device)
        angle = position_L[:, None] * frequencies(size, device)
        cosine, sine = angle.cos().to(heads_BHLK.dtype), angle.sin().to(heads_BHLK.dtype)
        even, odd = heads_BHLK[..., 0::2], heads_BHLK[..., 1::2]
        return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)


def alibi_slopes(num_heads: int, device: torch.device) -> Tensor:
    """The geometric sequence of slopes, one for each head (Press et al. 2022, section 3), in float32.

    Powers of two give 2^(-8/n), 2^(-16/n), ...; other counts fill up with every second slope of twice as many.

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

    def mask(self, *, causal: bool, keys_BM: Tensor | None = None) -> Mask:
        return Mask(causal=causal, keys_BM=keys_BM, distance_bias=self.distance_bias)

    def distance_bias(self, distance_LM: Tensor) -> Tensor:
        """Minus slope times distance, H x L x M."""
        return -alibi_slopes(self.num_heads, distance_LM.device)[:, None, None] * distance_LM.abs()


def make_positions(config: TransformerConfig) -> Positions:
    """The scheme that the configuration names."""
    match config.positions:
        case "sinusoidal":
            return SinusoidalPositions()
        case "learned":
            return LearnedPositions(config.d_model, config.max_positions)
        case "rotary":
            return RotaryPositions()
        case "alibi":
            return AlibiPositions(config.num_heads)
        case "none":
            return Positions()
