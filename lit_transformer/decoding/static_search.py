"""Beam search whose tensors keep their sizes and their places, so that a GPU replays a step as one CUDA graph.

It finds the hypotheses of the plain engine: the same model computes them, and the same `Beams` or `Greedy` rank them.
Four things differ. Batches have few shapes and are filled up. Keys, values and hypotheses are written in place. The
length so far is a tensor. Sentences that are done stay in the batch to its end.

Legend: B batch, S source length.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from threading import RLock

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_transformer.batch import EOS_ID, PAD_ID, pad
from lit_transformer.decoding.devices import enough_memory, inference, memory_remedy
from lit_transformer.decoding.engine import FoundBatches, OnBatch, checked, gathered, refuse_sampling
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.replay import Replay, best_replay
from lit_transformer.decoding.search import STEPS_PER_CHECK_ELSEWHERE
from lit_transformer.decoding.static_batch import CacheMemory, Shape, StaticBatch
from lit_transformer.decoding.transformer_search import limits
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings

LEAST_SOURCE_LENGTH = 32
"""Shorter sources are filled up to it. A shape costs the time to capture its graphs."""
LEAST_FILLED = 16
"""Places of the cache that the first steps read. Later steps read 2, 4, 8, ... times as many."""


class StaticSearch:
    """The engine `cuda_graphs`.

    On a CPU it computes the same, and is not faster than the plain engine. So only tests use it there.

    Args:
        transformer: The model. Dropout is off during the search.
        batch_tokens: Padded source tokens per batch, at most. It changes speed and memory, not the hypotheses.
        replay: How steps are run. By default CUDA graphs on a GPU, and calls elsewhere.
    """

    def __init__(self, transformer: Transformer, batch_tokens: int, replay: Replay | None = None) -> None:
        self._transformer = transformer
        self._batch_tokens = batch_tokens
        self._replay = best_replay(transformer.embedding.weight.device) if replay is None else replay
        self._lock = RLock()
        self._weights: list[int] = []
        self._memory = CacheMemory(transformer)
        self._batches: dict[tuple[Shape, SearchSettings], StaticBatch] = {}

    def search(
        self,
        sources: Sequence[list[int]],
        settings: SearchSettings,
        numbers: Sequence[int] | None = None,  # noqa: ARG002 # for sampling
        *,
        on_batch: OnBatch = lambda _: None,
    ) -> list[list[Hypothesis]]:
        """See `Engine.search`."""
        refuse_sampling(settings, "cuda_graphs")
        with self._lock:
            return gathered(len(sources), self._search(sources, settings), on_batch)

    def _search(self, sources: Sequence[list[int]], settings: SearchSettings) -> FoundBatches:
        longest = self._transformer.config.longest
        lengths = [len(ids) for ids in sources]
        batches = list(shaped_batches(lengths, self._batch_tokens, settings, longest))
        for shape, batch in batches:
            source_BS = padded([sources[index] for index in batch], shape)
            remedy = memory_remedy(source_BS, lower=f"beam_size {settings.beam_size}")
            with inference(self._transformer), enough_memory(remedy), self._replay.active():
                self._reserve([shape for shape, _ in batches], settings.beam_size)
                hypotheses = self._search_batch(source_BS, shape, len(batch), settings)
            yield batch, checked(hypotheses)

    def _reserve(self, shapes: Sequence[Shape], beam_size: int) -> None:
        """Have memory for these shapes. Graphs know addresses: they are dropped if memory or weights are new."""
        weights = [weight.data_ptr() for weight in self._transformer.parameters()]
        num_past = max(self._memory.num_past, *(shape.sentences * beam_size * shape.steps for shape in shapes))
        num_source = max(self._memory.num_source, *(shape.sentences * shape.source_length for shape in shapes))
        if (weights, num_past, num_source) == (self._weights, self._memory.num_past, self._memory.num_source):
            return
        self._replay.clear()
        self._batches.clear()
        self._memory = CacheMemory(self._transformer)  # frees the old memory first
        self._memory = CacheMemory(self._transformer, num_past, num_source)
        self._weights = weights

    def _search_batch(
        self, source_BS: Tensor, shape: Shape, count: int, settings: SearchSettings
    ) -> list[list[Hypothesis]]:
        max_length_B = limits((source_BS != PAD_ID).sum(dim=1), settings, longest=self._transformer.config.longest)
        max_length_B[count:] = 0
        key = shape, settings
        if key not in self._batches:
            self._batches[key] = StaticBatch(self._transformer, self._memory, shape, settings)
        batch = self._batches[key]
        batch.load(source_BS, max_length_B)
        for length in range(1, int(max_length_B.max()) + 1):
            filled = min(max(LEAST_FILLED, power_of_2(length)), shape.steps)
            self._replay.run((key, filled), partial(batch.step, filled))
            if length % STEPS_PER_CHECK_ELSEWHERE == 0 and bool(batch.hypotheses.done_B.all()):
                break
        return batch.hypotheses.results()[:count]


def power_of_2(number: int) -> int:
    """The smallest power of 2 that is at least this number."""
    return 1 << (number - 1).bit_length()


def shaped_batches(
    lengths: Sequence[int], batch_tokens: int, settings: SearchSettings, longest: int | None
) -> Iterator[tuple[Shape, list[int]]]:
    """Yield batches of indices of similar length, the longest first, and the shape that each is filled up to.

    There are few shapes. Source lengths are powers of 2. Numbers of sentences are powers of 4, or as many as
    `batch_tokens` allows. The positions of the outputs count like those of the source, because the cache of short
    sources is mostly for outputs that are much longer.

    Args:
        lengths: Tokens of the sources.
        batch_tokens: Padded source tokens per batch, at most. A longer sentence is a batch of its own.
        settings: How to search. They limit the outputs.
        longest: The tokens of the longest sequence that the model can read. None if there is no limit.
    """
    groups: dict[int, list[int]] = {}
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        groups.setdefault(max(LEAST_SOURCE_LENGTH, power_of_2(lengths[index])), []).append(index)
    for length, group in groups.items():
        source_length, steps = (min(size, longest or size) for size in (length, settings.limit(length)))
        most = max(1, 2 * batch_tokens // (source_length + steps))
        bits = (len(group) - 1).bit_length()
        shape = Shape(min(most, 1 << (bits + bits % 2)), source_length, steps)
        for first in range(0, len(group), shape.sentences):
            yield shape, group[first : first + shape.sentences]


def padded(sources: list[list[int]], shape: Shape) -> Tensor:
    """Sources as a batch of this shape. Sentences that fill it up are empty."""
    source_BS = torch.from_numpy(pad([*sources, *[[EOS_ID]] * (shape.sentences - len(sources))]))
    return F.pad(source_BS, (0, shape.source_length - source_BS.shape[1]), value=PAD_ID)
