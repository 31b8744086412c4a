"""The Transformer (section 3): encoder, decoder, tied embeddings, and decoding one step at a time.

It knows neither what the ids mean (but for padding) nor losses, search or text.

Legend: B batch, S source length, T target length, N rows (batch x beams), D d_model, H heads, K head dimension,
V vocabulary.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.model.attention import Attend, KeysValues, WeightRecorder, attend
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.dropout import Dropout
from lit_transformer.model.layers import DecoderLayer, EncoderLayer
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import Positions, make_positions


class Memory(NamedTuple):
    """The encoder's result."""

    states_BSD: Tensor
    mask: Mask
    """Which source positions there are: what the decoder may attend to."""


class AttentionMaps(NamedTuple):
    """The weights of the chosen layers, which count from 0; each sums to 1 over its last axis."""

    encoder: dict[int, Tensor]
    """B x H x S x S a layer."""
    decoder: dict[int, Tensor]
    """B x H x T x T a layer."""
    cross: dict[int, Tensor]
    """B x H x T x S a layer."""


@dataclass(frozen=True)
class DecoderState:
    """What decoding has to remember: past keys and values of every row, the source's of every sentence.

    The rows of one sentence lie side by side, the same number for each.
    """

    past: list[KeysValues]
    """N x H x (positions so far) x K a layer."""
    source: list[KeysValues]
    """B x H x S x K a layer."""
    source_mask: Mask
    """Which source positions there are."""

    def reorder(self, row_N: Tensor) -> Self:
        """Row i continues what was row `row_N[i]`, of the same sentence."""
        past = [KeysValues(key.index_select(0, row_N), value.index_select(0, row_N)) for key, value in self.past]
        return type(self)(past, self.source, self.source_mask)

    def keep(self, sentence_B: Tensor) -> Self:
        """Only these sentences go on, with all their rows."""
        beams = self.past[0].key_BHMK.shape[0] // self.source[0].key_BHMK.shape[0]
        row_N = (sentence_B[:, None] * beams + torch.arange(beams, device=sentence_B.device)).flatten()
        source = [KeysValues(key[sentence_B], value[sentence_B]) for key, value in self.source]
        return type(self)(self.reorder(row_N).past, source, self.source_mask.take(sentence_B))


class Transformer(nn.Module):
    """The encoder-decoder of the paper with three-way tied embeddings (section 3.4)."""

    def __init__(self, config: TransformerConfig, *, vocab_size: int, pad_id: int) -> None:
        super().__init__()
        self.config = config
        self.pad_id = pad_id
        self.embedding = nn.Embedding(vocab_size, config.d_model)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)
        self.dropout = Dropout(config.dropout)
        self.source_positions = make_positions(config)
        self.target_positions = make_positions(config)
        layers = range(config.num_layers)
        encoder = nn.ModuleList(EncoderLayer(config) for _ in layers)
        decoder = nn.ModuleList(DecoderLayer(config) for _ in layers)
        self.encoder, self.decoder = cast("list[EncoderLayer]", encoder), cast("list[DecoderLayer]", decoder)
        # Pre-norm leaves the sum of all sub-layers unnormalised at the top; post-norm has normalised it already.
        self.encoder_norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self.decoder_norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self.register_load_state_dict_pre_hook(_drop_copies_of_positions)  # type: ignore[no-untyped-call]

    def forward(self, source_BS: Tensor, target_input_BT: Tensor) -> Tensor:
        """Logits of the next piece at every target position under teacher forcing, B x T x V."""
        return self.logits(self.decode(target_input_BT, self.encode(source_BS)))

    def encode(self, source_BS: Tensor, attend: Attend = attend, *, padded: bool = True) -> Memory:
        """The encoder stack.

        Args:
            source_BS: The source; no row may be padding alone.
            attend: How attention is computed.
            padded: Whether there may be padding. A caller who knows that there is none gives False, and a GPU takes
                its fastest kernel.
        """
        keys_BS = source_BS != self.pad_id if padded else None
        mask = self.source_positions.mask(causal=False, keys_BM=keys_BS)
        states_BSD = self._embed(source_BS, self.source_positions, start=0)
        for layer in self.encoder:
            states_BSD = layer(states_BSD, mask, self.source_positions, attend)
        return Memory(self.encoder_norm(states_BSD), Mask(keys_BM=keys_BS))

    def decode(self, target_input_BT: Tensor, memory: Memory, attend: Attend = attend) -> Tensor:
        """The decoder stack under teacher forcing, B x T x D; position t has seen the input up to t.

        Padding at the end needs no mask of its own: no position before it attends to it.
        """
        mask = self.target_positions.mask(causal=True)
        states_BTD = self._embed(target_input_BT, self.target_positions, start=0)
        for layer in self.decoder:
            source = layer.cross_attention.keys_values(memory.states_BSD)
            states_BTD = layer(states_BTD, mask, self.target_positions, source, memory.mask, attend)
        return self.decoder_norm(states_BTD)

    def logits(self, states: Tensor) -> Tensor:
        """Decoder states to scores of the vocabulary, through the embedding matrix (section 3.4)."""
        return F.linear(states, self.embedding.weight)

    def start(self, memory: Memory, *, beam_size: int = 1) -> DecoderState:
        """The state before the first target piece, with `beam_size` rows a sentence."""
        source = [layer.cross_attention.keys_values(memory.states_BSD) for layer in self.decoder]
        rows = memory.states_BSD.shape[0] * beam_size
        heads = self.config.num_heads
        past = [
            KeysValues(
                key.new_empty(rows, heads, 0, self.config.key_size),
                value.new_empty(rows, heads, 0, self.config.value_size),
            )
            for key, value in source
        ]
        return DecoderState(past, source, memory.mask)

    def step(self, token_N: Tensor, state: DecoderState, attend: Attend = attend) -> tuple[Tensor, DecoderState]:
        """Logits after one more target piece a row, N x V, and the state that has seen it."""
        start = state.past[0].key_BHMK.shape[2]
        positions = self.target_positions
        mask = positions.mask(causal=True)
        states_N1D = self._embed(token_N[:, None], positions, start)
        past = []
        for layer, layer_past, source in zip(self.decoder, state.past, state.source, strict=True):
            states_N1D, present = layer.step(states_N1D, layer_past, mask, positions, source, state.source_mask, attend)
            past.append(present)
        logits_NV = self.logits(self.decoder_norm(states_N1D[:, 0]))
        return logits_NV, DecoderState(past, state.source, state.source_mask)

    def attention_maps(
        self, source_BS: Tensor, target_input_BT: Tensor, layers: Collection[int] | None = None
    ) -> AttentionMaps:
        """The weights of all heads under teacher forcing, as `forward` computes them.

        Args:
            source_BS: As for `forward`.
            target_input_BT: As for `forward`.
            layers: The layers to keep, from 0, all when left out. Only their weights take memory.
        """
        layers = range(self.config.num_layers) if layers is None else layers
        # A decoder layer attends twice, to what was said and then to the source.
        encoder = WeightRecorder(layers)
        decoder = WeightRecorder([2 * layer + call for layer in layers for call in (0, 1)])
        self.decode(target_input_BT, self.encode(source_BS, encoder), decoder)
        return AttentionMaps(
            {layer: encoder.weights[layer] for layer in layers},
            {layer: decoder.weights[2 * layer] for layer in layers},
            {layer: decoder.weights[2 * layer + 1] for layer in layers},
        )

    def _embed(self, token_BL: Tensor, positions: Positions, start: int) -> Tensor:
        scaled_BLD = self.embedding(token_BL) * self.config.d_model**0.5
        return self.dropout(positions.embed(scaled_BLD, start))


def _drop_copies_of_positions(_module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object) -> None:
    """Drop the copies of learned positions that version 0.1.0 saved with every layer."""
    copies = re.compile(re.escape(prefix) + r"(encoder|decoder)\.\d+\.self_attention\.positions\..*")
    for name in list(state_dict):
        if copies.fullmatch(name):
            del state_dict[name]
