"""The Transformer (section 3): two stacks and their embeddings, for training and for decoding one step at a time.

It knows neither what the ids mean (except padding) nor losses, search or text.

Legend: B batch, S source length, T target length, L query length, M key length, D d_model, V vocabulary, N rows
(batch x beams).
"""

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor, nn

from lit_transformer.model.attention import record_weights
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.embeddings import Embedding, Output
from lit_transformer.model.masks import Mask
from lit_transformer.model.packing import PackedRow, RowPair
from lit_transformer.model.positions import make_positions
from lit_transformer.model.stack import DecoderState, Memory, Stack


class AttentionMaps(NamedTuple):
    """The weights of the chosen layers, which count from 0. Each row sums to 1."""

    encoder: dict[int, Tensor]
    """B x num_heads x S x S per layer."""
    decoder: dict[int, Tensor]
    """B x num_heads x T x T per layer."""
    cross: dict[int, Tensor]
    """B x num_heads x T x S per layer."""


class Transformer(nn.Module):
    """The encoder-decoder of the paper with tied embeddings (section 3.4).

    One matrix embeds the source and the target and projects to logits. If the source has a vocabulary of its own, it
    also has its own embedding, and the other two stay tied.

    Args:
        config: The architecture.
        vocab_size: Tokens in the vocabulary, which is the target's if the source has its own.
        pad_id: The id that fills up short sources.
        source_vocab_size: Tokens in a vocabulary of the source alone. None if both sides share one.
        activation_checkpointing: Whether the backward pass computes each layer again (`Stack`).
    """

    def __init__(
        self,
        config: TransformerConfig,
        *,
        vocab_size: int,
        pad_id: int,
        source_vocab_size: int | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.pad_id = pad_id
        self.vocab_size, self.source_vocab_size = vocab_size, source_vocab_size
        self.embedding, self.output = Embedding(vocab_size, config), Output(vocab_size, config)
        self.source_embedding = None if source_vocab_size is None else Embedding(source_vocab_size, config)
        source_positions, target_positions = make_positions(config), make_positions(config, causal=True)
        self.encoder = Stack(config, source_positions, activation_checkpointing=activation_checkpointing)
        self.decoder = Stack(
            config, target_positions, attends_to_source=True, activation_checkpointing=activation_checkpointing
        )

    def forward(self, source_BS: Tensor, target_input_BT: Tensor) -> Tensor:
        """Logits of the next token at every target position under teacher forcing, B x T x V."""
        return self.logits(self.decode(target_input_BT, self.encode(source_BS)))

    def encode(self, source_BS: Tensor, *, padded: bool = True) -> Memory:
        """The encoder.

        Args:
            source_BS: The source. No row may be padding alone.
            padded: Whether there may be padding. If there is known to be none, False lets a GPU take its fastest
                kernel.
        """
        mask = Mask(keys_BM=source_BS != self.pad_id if padded else None)
        return Memory(self.encoder(self.embed_source(source_BS), mask), mask)

    def decode(self, target_input_BT: Tensor, memory: Memory) -> Tensor:
        """The decoder under teacher forcing, B x T x D. Position t attends to the input up to t.

        Padding at the end needs no mask of its own: no position before it attends to it.
        """
        return self.decoder(self.embed_target(target_input_BT), Mask(causal=True), source=self.decoder.project(memory))

    def packed_states(
        self, source_BS: Tensor, target_input_BT: Tensor, source_row: PackedRow, target_row: PackedRow
    ) -> Tensor:
        """What `decode` computes, B x T x D, for a single row (B = 1) with many sentences one after the other.

        Raises:
            UserError: If a sentence is longer than learned positions allow.
        """
        self.encoder.check_length(source_row.token_BL.shape[1])
        self.decoder.check_length(target_row.token_BL.shape[1])
        mask = Mask(packing=RowPair(queries=source_row, keys=source_row))
        states_BSD = self.encoder(self.embed_source(source_BS), mask, positions_BL=source_row.positions_1X)
        to_source = Mask(packing=RowPair(queries=target_row, keys=source_row))
        return self.decoder(
            self.embed_target(target_input_BT),
            Mask(causal=True, packing=RowPair(queries=target_row, keys=target_row)),
            positions_BL=target_row.positions_1X,
            source=self.decoder.project(Memory(states_BSD, to_source)),
        )

    def embed_source(self, source_BS: Tensor) -> Tensor:
        """Scaled embeddings of source tokens, B x S x D (section 3.4)."""
        return (self.embedding if self.source_embedding is None else self.source_embedding)(source_BS)

    def embed_target(self, token_BL: Tensor) -> Tensor:
        """Scaled embeddings of target tokens, B x L x D (section 3.4)."""
        return self.embedding(token_BL)

    def logits(self, states: Tensor) -> Tensor:
        """Decoder states to scores of the vocabulary, through the embedding matrix (section 3.4)."""
        return self.output(states, self.embedding.weight)

    def start(self, memory: Memory, *, beam_size: int = 1) -> DecoderState:
        """The state before the first target token, with `beam_size` rows per sentence."""
        return DecoderState(beam_size, self.decoder.project(memory))

    def step(self, token_N: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Reads one more target token per row.

        Returns:
            Logits of the next token, N x V, and the state after `token_N`.
        """
        cache = dict(state.cache)
        vectors_N1D = self.embed_target(token_N[:, None])
        states_N1D = self.decoder(vectors_N1D, Mask(causal=True), cache=cache, source=state.source)
        logits_NV = self.logits(states_N1D[:, 0])
        return logits_NV, replace(state, cache=cache)

    def attention_maps(
        self, source_BS: Tensor, target_input_BT: Tensor, layers: Collection[int] | None = None
    ) -> AttentionMaps:
        """The weights of all heads under teacher forcing, as `forward` computes them.

        Args:
            source_BS: As for `forward`.
            target_input_BT: As for `forward`.
            layers: The layers to keep, counted from 0. None keeps all. Other layers take no memory.
        """
        layers = range(self.config.num_layers) if layers is None else layers
        kinds = (self.encoder.self_attentions, self.decoder.self_attentions, self.decoder.cross_attentions)
        with record_weights(attentions[layer] for attentions in kinds for layer in layers) as weights:
            self.decode(target_input_BT, self.encode(source_BS))
        return AttentionMaps(*({layer: weights[attentions[layer]] for layer in layers} for attentions in kinds))
