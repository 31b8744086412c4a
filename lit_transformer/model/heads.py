"""Switching heads off, to see what they are for.

Legend: D d_model, H heads, K head dimension.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lit_transformer.model.attention import CrossAttention, SelfAttention
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer


@dataclass(frozen=True, eq=False)
class HeadMask:
    """Which heads take part (True): three boolean tensors, layers x heads.

    Make one with `mask = HeadMask.all(config)` and switch heads off with `mask.cross[layer, head] = False`.
    """

    encoder: Tensor
    """Self-attention of the encoder."""
    decoder: Tensor
    """Self-attention of the decoder."""
    cross: Tensor
    """Attention of the decoder to the source."""

    @classmethod
    def all(cls, config: TransformerConfig) -> Self:
        """Every head of a model takes part."""
        size = config.num_layers, config.num_heads
        return cls(*(torch.ones(size, dtype=torch.bool) for _ in range(3)))


@torch.no_grad()
def with_heads(transformer: Transformer, mask: HeadMask) -> Transformer:
    """A copy of the model in which the heads outside of the mask add nothing to the output of their layer.

    A head's output reaches the model through its own columns of W^O (section 3.2.2), and these become zero. The model
    computes all heads as before, so this shows what a head contributes (Michel et al. 2019), but saves no time.

    Raises:
        ValueError: If the mask has another type or size than the model's layers x heads.
    """
    ablated = deepcopy(transformer)
    attentions: dict[str, Sequence[SelfAttention | CrossAttention]] = {
        "encoder": ablated.encoder.self_attentions,
        "decoder": ablated.decoder.self_attentions,
        "cross": ablated.decoder.cross_attentions,
    }
    size = transformer.config.num_layers, transformer.config.num_heads
    for (kind, layers), keep in zip(attentions.items(), (mask.encoder, mask.decoder, mask.cross), strict=True):
        if keep.dtype != torch.bool or keep.shape != size:
            raise ValueError(
                f"head mask {kind} is {keep.dtype} of size {tuple(keep.shape)}: it must be boolean, "
                f"{size[0]} layers x {size[1]} heads (HeadMask.all makes it)"
            )
        for attention, keep_H in zip(layers, keep, strict=True):
            # D x (H K): `merge_heads` lays the heads side by side in this order.
            heads_DHK = attention.output.weight.unflatten(1, (size[1], -1))
            heads_DHK[:, ~keep_H.to(heads_DHK.device)] = 0.0
    return ablated
