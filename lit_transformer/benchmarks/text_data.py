"""The speed of data: tokenizing, assembling batches, and how long a training loop waits for its loader."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import sentencepiece as spm

from lit_transformer.batch import VOCAB_SIZE
from lit_transformer.benchmarks.sentences import draw_lengths
from lit_transformer.benchmarks.usage import Usage
from lit_transformer.data.arrow_file import write_arrow
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.epochs import whole_epochs
from lit_transformer.data.loader import TimedLoader
from lit_transformer.data.pairs import PairAssembler
from lit_transformer.data.prepare import tokenize_pairs
from lit_transformer.data.splits import find_splits
from lit_transformer.data.store import TokenStore
from lit_transformer.data.stream import TrainingStream
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.data.vocabulary import find_vocabularies
from lit_transformer.machine import usable_cores

DEMO = "demo:100000"
TOKENS_PER_BATCH = 25_000
"""The paper's (section 5.1)."""
NUM_PAIRS = 100_000
NUM_BATCHES = 60
"""Batches that are assembled."""
STEP_SECONDS = 0.05
"""Seconds of one step of the base model on one H100 (docs/gpu.md). A loader must not be slower."""


@dataclass(frozen=True, kw_only=True)
class DataJob:
    """What is tokenized.

    Args:
        corpus: As in `TranslationData`.
        source: The language to translate from.
        target: The language to translate into.
        vocab_size: Tokens of the vocabulary.
        repeats: How often each is measured.
    """

    corpus: str = DEMO
    source: str = "en"
    target: str = "de"
    vocab_size: int = 1_200
    repeats: int = 3
    num_pairs: int = NUM_PAIRS


def measure_data(job: DataJob) -> list[dict[str, Any]]:
    """Measure all three in turn."""
    with TemporaryDirectory() as folder:
        return [_tokenizing(job, Path(folder)), *_batches(job, Path(folder))]


def _tokenizing(job: DataJob, folder: Path) -> dict[str, Any]:
    """Tokenize a corpus as `fit` does, and by SentencePiece alone on all cores."""
    corpus = {"corpus": job.corpus, "source": job.source, "target": job.target}
    text = find_splits(**corpus, valid_corpus=None, valid_pairs=0, cache_dir=folder).train
    pairs = text.load()
    vocabularies = find_vocabularies(
        text,
        file=None,
        source_file=None,
        vocab_size=job.vocab_size,
        source_vocab_size=None,
        character_coverage=0.9999,
        normalization="identity",
        byte_fallback=None,
        symbols=(),
        cache_dir=folder,
    )
    lines = [*pairs["source"][:], *pairs["target"][:]]
    raw, ours = [], []
    for repeat in range(job.repeats):
        raw.append(_seconds_of_sentencepiece(vocabularies, lines))
        begin = Usage.now()
        tokenize_pairs(text, vocabularies, max_length=256, max_length_ratio=4.0, cache_dir=folder / str(repeat))
        ours.append(Usage.now().interval_since(begin, tokens=len(lines), threads=usable_cores()))
    speeds = [len(lines) / interval.wall for interval in ours]
    return {
        "name": "tokenizing",
        "sentences_per_second": median(speeds),
        "sentences_per_cpu_second": median(len(lines) / interval.cpu for interval in ours),
        "sentencepiece_per_second": median(len(lines) / seconds for seconds in raw),
        "share_of_sentencepiece": median(mine / interval.wall for mine, interval in zip(raw, ours, strict=True)),
        "sentences": len(lines),
        "cores": usable_cores(),
    }


def _seconds_of_sentencepiece(vocabularies: Vocabularies, lines: list[str]) -> float:
    processor = spm.SentencePieceProcessor()
    processor.LoadFromSerializedProto(vocabularies.source.model_bytes)
    begin = time.perf_counter()
    processor.encode(lines, num_threads=usable_cores())
    return time.perf_counter() - begin


def _batches(job: DataJob, folder: Path) -> Iterator[dict[str, Any]]:
    """Assemble batches of WMT14's lengths from a file, first in this process, then by a loader with one worker."""
    store, plan = _random_store(folder, job.num_pairs)
    epochs, assembler = whole_epochs(plan.num_batches), PairAssembler(store, plan)
    stream = TrainingStream(plan, assembler, epochs=epochs, accumulation=1, rank=0, world_size=1)
    stream.batch(0, 0)
    begin = time.process_time()
    for step in range(1, NUM_BATCHES + 1):
        stream.batch(step, 0)
    cpu = (time.process_time() - begin) / NUM_BATCHES
    yield {"name": "assembling", "cpu_ms_per_batch": 1e3 * cpu, "tokens_per_batch": TOKENS_PER_BATCH}
    loader = TimedLoader(stream, steps=lambda: range(NUM_BATCHES), num_workers=1, pin_memory=False, check=lambda: None)
    batches = iter(loader)
    next(batches)  # starting the worker is not waiting
    started, begin = loader.wait_seconds, time.perf_counter()
    for _ in batches:
        time.sleep(STEP_SECONDS)
    seconds = time.perf_counter() - begin
    loader.close()
    yield {"name": "loading", "waiting_share": (loader.wait_seconds - started) / seconds, "step_ms": 1e3 * STEP_SECONDS}


def _random_store(folder: Path, num_pairs: int) -> tuple[TokenStore, BatchPlan]:
    random = np.random.default_rng(1)
    columns = []
    for lengths in draw_lengths(num_pairs, seed=1):
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        ids = random.integers(4, VOCAB_SIZE, offsets[-1]).astype(np.uint16)
        columns.append(pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids)))
    batch = pa.record_batch(columns, names=["source", "target"])
    path = folder / "tokens.arrow"
    write_arrow(path, batch.schema, [batch])
    store = TokenStore(path)
    return store, BatchPlan(store.lengths("source"), store.lengths("target"), TOKENS_PER_BATCH, seed=1)
