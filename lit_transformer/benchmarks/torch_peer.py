"""The peer `torch`: `torch.nn.Transformer` between tied embeddings and sinusoids, as a user would write it in a script.

It has the weights of ours, and biases of its projections that start at 0. Its dropout is also applied to attention
weights and inside the feed-forward network, because it has one rate for all.

Legend: B batch, S source length, T target length, L query length, D d_model.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.batch import PAD_ID
from lit_transformer.benchmarks.contest import Entry
from lit_transformer.benchmarks.training import TrainingJob, TrainingLoop, prepare_peer
from lit_transformer.model.layers import Layer
from lit_transformer.model.positions import sinusoids
from lit_transformer.model.transformer import Transformer


class TorchPeer(nn.Module):
    """`torch.nn.Transformer` with the weights of ours, which must be post-norm with sinusoids (the paper's)."""

    def __init__(self, ours: Transformer) -> None:
        super().__init__()
        config = ours.config
        self.dropout = config.dropout
        layers = config.num_layers
        sizes = (config.d_model, config.num_heads, layers, layers, config.d_ff, config.dropout)
        self.transformer = nn.Transformer(*sizes, batch_first=True)
        # Post-norm has no norm after the last layer (figure 1).
        self.transformer.encoder.norm = self.transformer.decoder.norm = None
        self.embedding = nn.Embedding.from_pretrained(ours.embedding.weight.detach().clone(), freeze=False)
        for stack, our_stack in ((self.transformer.encoder, ours.encoder), (self.transformer.decoder, ours.decoder)):
            for layer, our_layer in zip(stack.layers, our_stack.layers, strict=True):
                copy_layer(layer, our_layer)

    def forward(self, source_BS: Tensor, target_input_BT: Tensor) -> Tensor:
        """Logits under teacher forcing, batch x target length x vocabulary."""
        length = target_input_BT.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=source_BS.device)
        padding_BS = source_BS == PAD_ID
        states_BTD = self.transformer(
            self._embed(source_BS),
            self._embed(target_input_BT),
            tgt_mask=mask,
            src_key_padding_mask=padding_BS,
            memory_key_padding_mask=padding_BS,
            tgt_is_causal=True,
        )
        return F.linear(states_BTD, self.embedding.weight)

    def _embed(self, token_BL: Tensor) -> Tensor:
        d_model = self.embedding.embedding_dim
        position_LD = sinusoids(torch.arange(token_BL.shape[1], device=token_BL.device), d_model)
        states_BLD = self.embedding(token_BL) * d_model**0.5 + position_LD
        return F.dropout(states_BLD, self.dropout, self.training)


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


def training_entries(job: TrainingJob) -> dict[str, Entry]:
    """The contestants that train."""
    return {"torch": (prepare_training, job)}


def prepare_training(job: TrainingJob) -> TrainingLoop:
    """The peer in a plain loop. On a GPU, cuDNN's attention is off, which makes a plan for each new shape."""
    torch.backends.cuda.enable_cudnn_sdp(False)
    return prepare_peer(job, TorchPeer)
