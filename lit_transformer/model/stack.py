"""A stack of layers over vectors, whatever they stand for (section 3.1).

Encoder and decoder are stacks. So are a GPT (causal, without a source), a BERT (both ways) and a ViT (over patches of
an image). A stack does not know tokens.

Legend: B batch, S source length, L query length, D d_model, N rows (batch x beams).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lit_transformer.errors import UserError
from lit_transformer.model.attention import Cache, CrossAttention, KeysValues, SelfAttention, Source, record_weights
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.dropout import Dropout
from lit_transformer.model.layers import Layer, make_norm
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import Positions


class Memory(NamedTuple):
    """The encoder's result."""

    states_BSD: Tensor
    mask: Mask
    """Which source positions exist."""


@dataclass(frozen=True)
class DecoderState:
    """The state of decoding. The rows of one sentence lie side by side."""

    beam_size: int
    """Rows per sentence."""
    source: Source | None = None
    """What cross-attention attends to, by sentence."""
    cache: Cache = field(default_factory=dict)
    """Keys and values of the positions so far, by row."""

    def reorder(self, row_N: Tensor) -> Self:
        """Reorder the rows: new row i continues old row `row_N[i]`, which belongs to the same sentence."""
        return replace(self, cache={attention: past.take(row_N) for attention, past in self.cache.items()})

    def keep(self, sentence_B: Tensor) -> Self:
        """Only these sentences continue, with all their rows."""
        beams = torch.arange(self.beam_size, device=sentence_B.device)
        row_N = (sentence_B[:, None] * self.beam_size + beams).flatten()
        return replace(self.reorder(row_N), source=self.source and self.source.take(sentence_B))


class Stack(nn.Module):
    """`num_layers` layers over vectors and their positions, with a final norm if the layers are pre-norm.

    Args:
        config: The architecture.
        positions: The position scheme (`make_positions`).
        attends_to_source: Whether every layer has cross-attention, as in the decoder.
        activation_checkpointing: Whether the backward pass computes each layer again from its input. That takes less
            memory and more time, and the numbers are the same.
    """

    def __init__(
        self,
        config: TransformerConfig,
        positions: Positions,
        *,
        attends_to_source: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.attends_to_source = attends_to_source
        self.activation_checkpointing = activation_checkpointing
        self.positions = positions
        self.window = config.window
        self.embedding_norm = make_norm(config) if config.embedding_norm else nn.Identity()
        self.dropout = Dropout(config.dropout)
        layers = nn.ModuleList(Layer(config, attends_to_source=attends_to_source) for _ in range(config.num_layers))
        self.layers = cast("list[Layer]", layers)
        # Pre-norm leaves the sum of all sub-layers unnormalized at the top. Post-norm has normalized it already.
        self.norm = make_norm(config) if config.norm == "pre" else nn.Identity()

    def forward(
        self,
        vectors_BLD: Tensor,
        mask: Mask,
        *,
        positions_BL: Tensor | None = None,
        cache: Cache | None = None,
        source: Source | None = None,
    ) -> Tensor:
        """The states of all positions after the last layer, B x L x D.

        Args:
            vectors_BLD: What stands at each position, such as embeddings of tokens.
            mask: Who may attend to whom.
            positions_BL: The positions of the vectors, for rows that pack several sequences or are padded on the left.
                By default they count from 0, or from the end of the cache.
            cache: Keys and values of earlier positions. Those of `vectors_BLD` are appended. With an empty one, a
                sequence begins that later calls continue.
            source: What cross-attention attends to, from `project`. A stack with cross-attention needs it.

        Raises:
            UserError: If the sequence is longer than learned positions allow.
        """
        assert (source is not None) == self.attends_to_source, "a stack with cross-attention takes a source, no other"
        if positions_BL is None:
            positions_BL = self._next_positions(vectors_BLD, cache)
        mask = self.positions.add_bias(mask if self.window is None else replace(mask, window=self.window))
        rotate = self.positions.rotation(positions_BL)
        states_BLD = self.dropout(self.embedding_norm(self.positions.embed(vectors_BLD, positions_BL)))
        recomputes = self.activation_checkpointing and cache is None and torch.is_grad_enabled()

        def apply(layer: Layer, states_BLD: Tensor) -> Tensor:
            # A mask keeps the biases that it has made, and computing the layer again must make the same tensors.
            own_mask = replace(mask) if recomputes else mask
            return layer(states_BLD, own_mask, rotate=rotate, cache=cache, source=source)

        for layer in self.layers:
            if recomputes:
                states_BLD = checkpoint(apply, layer, states_BLD, use_reentrant=False)
            else:
                states_BLD = apply(layer, states_BLD)
        return self.norm(states_BLD)

    def project(self, memory: Memory) -> Source:
        """The keys and values of the memory, which every layer's cross-attention projects for itself."""
        keys_values: dict[nn.Module, KeysValues] = {
            attention: attention.keys_values(memory.states_BSD) for attention in self.cross_attentions
        }
        return Source(keys_values, memory.mask)

    @property
    def self_attentions(self) -> list[SelfAttention]:
        """The self-attention of every layer."""
        return [layer.self_attention for layer in self.layers]

    @property
    def cross_attentions(self) -> list[CrossAttention]:
        """The cross-attention of every layer, for a stack that attends to a source."""
        return [layer.cross_attention for layer in self.layers]

    def attention_maps(self, run: Callable[[], object], layers: Collection[int] | None = None) -> dict[int, Tensor]:
        """The weights of all heads in self-attention, B x H x L x M per layer.

        Args:
            run: Calls the stack.
            layers: The layers to keep, counted from 0. None keeps all. Other layers take no memory.
        """
        layers = range(len(self.layers)) if layers is None else layers
        attentions = {layer: self.self_attentions[layer] for layer in layers}
        with record_weights(attentions.values()) as weights:
            run()
        return {layer: weights[attention] for layer, attention in attentions.items()}

    def check_length(self, length: int) -> None:
        """Raise UserError if a sequence of `length` tokens is longer than learned positions allow."""
        if self.positions.longest is not None and length > self.positions.longest:
            raise UserError(
                f"a sequence of {length} tokens is longer than max_positions {self.positions.longest}: "
                "shorten it, or train with more positions or another scheme"
            )

    def _next_positions(self, vectors_BLD: Tensor, cache: Cache | None) -> Tensor:
        start = cache[self.layers[0].self_attention].num_positions if cache else 0
        end = start + vectors_BLD.shape[1]
        self.check_length(end)
        return torch.arange(start, end, device=vectors_BLD.device)[None]
