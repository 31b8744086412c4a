"""Sentence pairs of random tokens with the lengths of WMT14, for training and for decoding.

Legend: B batch, X any size.
"""

import numpy as np
from numpy.typing import NDArray

from lit_transformer.batch import EOS_ID, PAD_ID, IntArray
from lit_transformer.checkpoints.places import load_checkpoint
from lit_transformer.data import CACHE_DIR
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.corpus import load_pairs
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.files import expanded

Sides = tuple[IntArray, IntArray]
"""The padded sources and targets of a batch."""
MEANS = (30.0, 31.0)
"""Tokens of a source and of a target sentence in WMT14 English-German, in 37,000 tokens, EOS included."""
SPREAD, CORRELATION, LONGEST = 0.62, 0.91, 256
"""Of the logarithms of both lengths; and the longest sentence of either side."""


def draw_lengths(num_pairs: int, *, seed: int, longest: int = LONGEST) -> tuple[IntArray, IntArray]:
    """The lengths of both sides: log-normal, and correlated. Pairs that are too long are left out."""
    random = np.random.default_rng(seed)
    covariance = SPREAD**2 * np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])
    normal = random.multivariate_normal([0.0, 0.0], covariance, size=num_pairs)
    lengths = np.rint(np.exp(normal + np.log(MEANS) - SPREAD**2 / 2)).astype(np.int64)
    source, target = np.maximum(lengths[lengths.max(axis=1) <= longest], 2).T
    return source, target


def draw_batches(num_batches: int, *, tokens_per_batch: int, vocab_size: int, seed: int) -> list[Sides]:
    """Batches of the plan that training would follow, of at most this many tokens on each side."""
    num_pairs = max(num_batches * tokens_per_batch // 10, 1000)  # more than the batches need
    lengths = draw_lengths(num_pairs, seed=seed, longest=min(LONGEST, tokens_per_batch))
    plan = BatchPlan(*lengths, tokens_per_batch, seed)
    random = np.random.default_rng(seed)
    batches = list[Sides]()
    for step in range(num_batches):
        rows = plan.step_rows(step)
        source, target = (draw_padded(side[rows], vocab_size, random) for side in lengths)
        batches.append((source, target))
    return batches


def batches_of_corpus(
    corpus: str, num_batches: int, *, source: str, target: str, tokens_per_batch: int, vocab_size: int
) -> list[Sides]:
    """The first batches that training on a corpus would take. Its vocabulary and tokens are made if they are new."""
    data = TranslationData(
        corpus, source, target, vocab_size=vocab_size, tokens_per_batch=tokens_per_batch, cache_dir=CACHE_DIR
    )
    data.prepare_data()
    data.setup("fit")
    steps = [data.plan.step_rows(step) for step in range(min(num_batches, data.plan.num_batches))]
    return [(data.store.gather(rows, "source"), data.store.gather(rows, "target")) for rows in steps]


def sources_of_corpus(
    corpus: str, num_batches: int, *, checkpoint: str, batch_size: int, split: str = "test"
) -> list[list[list[int]]]:
    """Sources of a corpus in a model's vocabulary, in batches of similar length that are spread over all lengths."""
    trained = load_checkpoint(checkpoint)
    languages = {"source": trained.source, "target": trained.target}
    pairs = load_pairs(corpus, split=split, **languages, cache_dir=expanded(CACHE_DIR))
    sources = [[*ids, EOS_ID] for ids in trained.vocabularies.source.encode(pairs["source"][:]) if ids]
    sources.sort(key=len)
    batches = [sources[first : first + batch_size] for first in range(0, len(sources), batch_size)]
    picked = np.random.default_rng(1).permutation(len(batches))[:num_batches]
    return [batches[number] for number in picked]


def draw_sources(num_batches: int, *, batch_size: int, vocab_size: int, seed: int) -> list[list[list[int]]]:
    """Batches of sources for decoding. The sentences of a batch have one length, so no side has padding."""
    lengths = np.sort(draw_lengths(2 * num_batches * batch_size + 100, seed=seed)[0])
    picked = lengths[np.linspace(0, len(lengths) - 1, num_batches + 2).astype(int)[1:-1]]
    random = np.random.default_rng(seed)
    random.shuffle(picked)
    return [draw_padded(np.full(batch_size, length), vocab_size, random).tolist() for length in picked]


def draw_padded(length_B: IntArray, vocab_size: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Random ids of sentences of these lengths, which end with EOS."""
    position_X = np.arange(int(length_B.max()))
    ids_BX = random.integers(EOS_ID + 1, vocab_size, (len(length_B), len(position_X)))
    ids_BX[position_X == length_B[:, None] - 1] = EOS_ID
    ids_BX[position_X >= length_B[:, None]] = PAD_ID
    return ids_BX
