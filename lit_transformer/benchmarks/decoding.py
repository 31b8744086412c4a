"""Beam search over batches of sources: ours by any engine, and what the peers that decode share.

Random weights never end a sentence in a sensible place. So their special tokens are made so unlikely that every
contestant decodes each sentence to its limit, which is the same for all. A trained model ends its sentences itself.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.benchmarks.sizes import Size
from lit_transformer.benchmarks.torch_work import TorchWork, set_up_torch
from lit_transformer.checkpoints.places import load_checkpoint
from lit_transformer.decoding.devices import allow_tf32
from lit_transformer.decoding.engine import Engine
from lit_transformer.decoding.engines import make_engine
from lit_transformer.decoding.settings import EngineSettings
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings

WORKERS_START_SECONDS = 15.0
EXTRA_LENGTH = 2
"""Tokens that the translations by random weights have more than their source."""


@dataclass(frozen=True, kw_only=True)
class DecodingJob:
    """What a contestant decodes.

    Args:
        engine: Ours decodes with this engine, and its `batch_tokens` only if `in_batches` is off.
        size: The model, with random weights.
        checkpoint: A trained model that takes its place.
        sources: Ids with EOS, batch by batch.
        settings: How to search.
        in_batches: Whether ours searches in the given batches, one by one, as peers do.
        device: Where to compute.
        threads: Cores to use.
        is_plain: Whether the settings of `machine.py` are left out.
    """

    engine: EngineSettings = EngineSettings()
    size: Size
    checkpoint: str | None = None
    sources: Sequence[list[list[int]]]
    settings: SearchSettings
    in_batches: bool = True
    device: str
    threads: int
    is_plain: bool = False

    def describe(self) -> dict[str, Any]:
        """What all contestants decode, as plain data."""
        return {
            "config": asdict(self.size.config),
            "vocab_size": self.size.vocab_size,
            "checkpoint": self.checkpoint,
            "batches": len(self.sources),
            "batch_size": len(self.sources[0]),
            "search": asdict(self.settings),
            "engine": asdict(self.engine),
        }


class DecodingWork(TorchWork):
    """What is measured, and what was found, batch by batch."""

    def __init__(self, job: DecodingJob) -> None:
        super().__init__(job.device, job.threads)
        self.outputs: dict[int, list[list[int]]] = {}

    def keep(self, batches: Sequence[int], outputs: Sequence[list[list[int]]]) -> int:
        """Keep the outputs of some batches, without EOS, and count their tokens."""
        self.outputs.update(zip(batches, outputs, strict=True))
        return sum(len(tokens) for batch in outputs for tokens in batch)

    def facts(self) -> dict[str, Any]:
        return {"outputs": self.outputs, **self.gpu_facts()}


class EngineWork(DecodingWork):
    """Ours: an engine, with text left out."""

    def __init__(self, engine: Engine, job: DecodingJob) -> None:
        super().__init__(job)
        self._engine, self._job = engine, job

    def run(self, batches: Sequence[int]) -> int:
        sources = [self._job.sources[number] for number in batches]
        if self._job.in_batches:
            outputs = [self._search(batch) for batch in sources]
        else:
            found = iter(self._search([ids for batch in sources for ids in batch]))
            outputs = [[next(found) for _ in batch] for batch in sources]
        self.synchronize()
        return self.keep(batches, outputs)

    def _search(self, sources: list[list[int]]) -> list[list[int]]:
        return [found[0].tokens for found in self._engine.search(sources, self._job.settings)]


def prepare_decoding(job: DecodingJob) -> EngineWork:
    """Load or draw the model, and start its engine with as many workers as the job has threads."""
    set_up_torch(job.device, threads=job.threads, is_plain=job.is_plain)
    allow_tf32(torch.device(job.device))
    engine = job.engine
    if job.in_batches:
        engine = replace(engine, batch_tokens=max(padded_tokens(batch) for batch in job.sources))
    workers = job.threads if job.device == "cpu" else 1
    work = EngineWork(make_engine(replace(engine, workers=workers), prepare_model(job)), job)
    begin = time.perf_counter()
    # Workers start when they pay, and are measured when all of them run.
    while workers > 1 and time.perf_counter() - begin < WORKERS_START_SECONDS:
        work.run(range(len(job.sources)))
    return work


def padded_tokens(batch: Sequence[list[int]]) -> int:
    """Source tokens of a batch, padding included."""
    return len(batch) * max(map(len, batch))


def prepare_model(job: DecodingJob) -> Transformer:
    """The model that all contestants have, on its device."""
    if job.checkpoint is None:
        torch.manual_seed(0)
        transformer = Transformer(job.size.config, vocab_size=job.size.vocab_size, pad_id=PAD_ID)
        make_endless(transformer)
    else:
        transformer = load_checkpoint(job.checkpoint).transformer
    return transformer.to(job.device).eval()


@torch.no_grad()
def make_endless(transformer: Transformer) -> None:
    """Change random weights so that special tokens, EOS among them, are never predicted.

    The last normalization leaves states whose mean is 0. So with a bias of 1, their product with a row of equal
    numbers is a constant, and their product with a row whose mean is 0 does not see the bias.
    """
    last = transformer.decoder.layers[-1].feed_forward_norm.norm
    assert isinstance(last, nn.LayerNorm)
    last.bias.fill_(1.0)
    weight = transformer.embedding.weight
    weight -= weight.mean(dim=1, keepdim=True)
    weight[[PAD_ID, UNK_ID, BOS_ID, EOS_ID]] = -(transformer.config.d_model**-0.5)


def search_settings(*, is_trained: bool, beam_size: int) -> SearchSettings:
    """How all contestants search. Without a length penalty, they all rank by the same."""
    settings = SearchSettings(beam_size=beam_size, length_penalty=0.0)
    return settings if is_trained else replace(settings, max_extra_length=EXTRA_LENGTH, min_length=0)


def count_equal(ours: dict[int, list[list[int]]], theirs: dict[int, list[list[int]]]) -> tuple[int, int]:
    """How many translations two contestants have in common, and of how many."""
    pairs = [pair for number in ours.keys() & theirs.keys() for pair in zip(ours[number], theirs[number], strict=True)]
    return sum(mine == other for mine, other in pairs), len(pairs)
