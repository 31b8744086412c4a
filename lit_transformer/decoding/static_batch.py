"""A batch of the static search: tensors that stay where they are, and a step that writes to them in place.

Legend: B batch, S source length, T target length, L query length, M key length, D d_model, H heads, K head dimension, N
rows (batch x beams), V vocabulary, X any size.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import fields
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lit_transformer.batch import EOS_ID, PAD_ID
from lit_transformer.decoding.beams import Beams
from lit_transformer.decoding.greedy import Greedy
from lit_transformer.decoding.hypotheses import FixedSequences, Sequences
from lit_transformer.decoding.scoring import Scorer
from lit_transformer.decoding.transformer_search import SPECIAL_IDS
from lit_transformer.model.attention import Cache, CrossAttention, KeysValues, SelfAttention, Source
from lit_transformer.model.fixed_cache import FixedKeysValues
from lit_transformer.model.masks import Mask
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings


class Shape(NamedTuple):
    """The sizes of a batch."""

    sentences: int
    source_length: int
    steps: int
    """The most steps, and the greatest length of a hypothesis."""


class CacheMemory:
    """Memory for the keys and values of one batch. Batches of all shapes use it, one after the other.

    Args:
        transformer: The model.
        num_past: Positions of outputs.
        num_source: Positions of sources.
    """

    def __init__(self, transformer: Transformer, num_past: int = 0, num_source: int = 0) -> None:
        self.num_past, self.num_source = num_past, num_source
        config, decoder = transformer.config, transformer.decoder
        self._num_heads, self._sizes = config.num_heads, (config.key_size, config.value_size)
        self._past = self._allocate(decoder.self_attentions, num_past)
        self._source = self._allocate(decoder.cross_attentions, num_source)

    def past(self, rows: int, steps: int) -> dict[nn.Module, KeysValues]:
        """Places for the keys and values of self-attention."""
        return self._views(self._past, rows, steps)

    def source(self, sentences: int, source_length: int) -> dict[nn.Module, KeysValues]:
        """Places for the keys and values of cross-attention."""
        return self._views(self._source, sentences, source_length)

    def _allocate(
        self, attentions: Sequence[SelfAttention | CrossAttention], num_positions: int
    ) -> dict[nn.Module, list[Tensor]]:
        return {
            attention: [
                attention.output.weight.new_empty(num_positions, self._num_heads * size) for size in self._sizes
            ]
            for attention in attentions
        }

    def _views(self, memory: dict[nn.Module, list[Tensor]], rows: int, length: int) -> dict[nn.Module, KeysValues]:
        return {
            attention: KeysValues(
                *(heads[: rows * length].view(rows, self._num_heads, length, -1) for heads in keys_values)
            )
            for attention, keys_values in memory.items()
        }


class FixedScorer(Scorer):
    """A scorer for lengths that are tensors, whose numbers the host does not know."""

    def ban(self, log_prob_NV: Tensor, length: int | Tensor) -> None:
        log_prob_NV.index_fill_(1, self.banned_X, float("-inf"))
        log_prob_NV[:, self.eos].masked_fill_(torch.as_tensor(length <= self.min_length), float("-inf"))


class StaticBatch:
    """The tensors of batches of one shape.

    Args:
        transformer: The model.
        memory: Where keys and values are.
        shape: The sizes.
        settings: How to search.
    """

    def __init__(self, transformer: Transformer, memory: CacheMemory, shape: Shape, settings: SearchSettings) -> None:
        self._transformer = transformer
        self._past = memory.past(shape.sentences * settings.beam_size, shape.steps)
        self._source = memory.source(shape.sentences, shape.source_length)
        long = partial(torch.zeros, dtype=torch.int64, device=transformer.embedding.weight.device)
        self._length_1, self._source_BS = long(1), long(shape.sentences, shape.source_length)
        max_length_B = long(shape.sentences)
        self._start = partial(
            Greedy.start if settings.beam_size == 1 else Beams.start,
            FixedScorer.create(SPECIAL_IDS, None, None, max_length_B, settings),
            settings,
            start=partial(FixedSequences.create, eos=EOS_ID, longest=shape.steps, length_1=self._length_1),
        )
        self.hypotheses: Beams | Greedy = self._start(max_length_B)

    def load(self, source_BS: Tensor, max_length_B: Tensor) -> None:
        """Encode sentences and go back to the first step. Sentences whose greatest length is 0 fill the batch up."""
        self._source_BS.copy_(source_BS)
        memory = self._transformer.encode(self._source_BS)
        for attention, computed in self._transformer.decoder.project(memory).keys_values.items():
            for place, heads in zip(self._source[attention], computed, strict=True):
                place.copy_(heads)
        for past in self._past.values():
            for heads in past:
                heads.zero_()  # What the mask hides must be numbers: 0 times NaN is NaN.
        _copy_tensors(self.hypotheses, self._start(max_length_B.to(self._source_BS.device)))
        self._length_1.fill_(1)

    def step(self, filled: int) -> None:
        """Extend all hypotheses by a token. `filled` places of the cache suffice for those so far and the new one."""
        decoder, place_1 = self._transformer.decoder, self._length_1 - 1
        cache: Cache = {
            attention: FixedKeysValues(past.key_BHMK[:, :, :filled], past.value_BHMK[:, :, :filled], place_1)
            for attention, past in self._past.items()
        }
        now = copy(self.hypotheses)
        states_N1D = decoder(
            self._transformer.embed_target(now.last_token_N()[:, None]),
            Mask(causal=True, query_L=place_1),
            positions_BL=place_1[None],
            cache=cache,
            source=Source(self._source, Mask(keys_BM=self._source_BS != PAD_ID)),
        )
        row_N = now.advance(self._transformer.logits(states_N1D[:, 0]), self._length_1)
        now.stop_at_limit(self._length_1)
        if row_N is not None:
            for past in cache.values():
                past.take(row_N)
        _copy_tensors(self.hypotheses, now)
        self._length_1 += 1


def _copy_tensors(target: Beams | Greedy, source: Beams | Greedy) -> None:
    """Copy the numbers of all tensors. The tensors stay where they are."""
    for field in fields(target):
        old, new = getattr(target, field.name), getattr(source, field.name)
        if isinstance(old, Tensor):
            old.copy_(new)
        elif isinstance(old, Sequences):
            old.tokens_BXT.copy_(new.tokens_BXT)
            old.scores_BXT.copy_(new.scores_BXT)
