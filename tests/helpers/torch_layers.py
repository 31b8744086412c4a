"""Copies our weights into PyTorch's own layers, with which tests compare."""

from typing import Any

import torch
from torch import Tensor, nn

from lit_transformer.model.layers import Layer


@torch.no_grad()
def copy_layer(theirs: Any, ours: Layer) -> None:
    """Copy a layer into an encoder layer, or into a decoder layer if it has cross-attention."""
    attention = ours.self_attention
    _copy_attention(theirs.self_attn, [attention.query_key_value.weight], attention.output.weight)
    norms = [ours.self_attention_norm, ours.feed_forward_norm]
    if isinstance(theirs, nn.TransformerDecoderLayer):
        cross = ours.cross_attention
        _copy_attention(theirs.multihead_attn, [cross.query.weight, cross.key_value.weight], cross.output.weight)
        norms.insert(1, ours.cross_attention_norm)
    for number, add_norm in enumerate(norms, start=1):
        theirs.get_submodule(f"norm{number}").load_state_dict(add_norm.norm.state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward.inner.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.outer.state_dict())


def _copy_attention(theirs: nn.MultiheadAttention, in_projections: list[Tensor], output: Tensor) -> None:
    theirs.in_proj_weight.copy_(torch.cat(in_projections))
    theirs.out_proj.weight.copy_(output)
    theirs.in_proj_bias.zero_()
    theirs.out_proj.bias.zero_()
