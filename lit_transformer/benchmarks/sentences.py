"""Sentence pairs of random tokens with the lengths of WMT14, for training and for decoding.

Legend: B batch, X any size.
"""

import numpy as np
from numpy.typing import NDArray

from lit_transformer.batch import EOS_ID, PAD_ID, Batch, IntArray, make_batch
from lit_transformer.data.batching import BatchPlan

MEANS = (30.0, 31.0)
"""Tokens of a source and of a target sentence in WMT14 English-German, in 37,000 tokens, EOS included."""
SPREAD, CORRELATION, LONGEST = 0.62, 0.91, 256
"""Of the logarithms of both lengths; and the longest sentence of either side."""


def draw_lengths(num_pairs: int, *, seed: int) -> tuple[IntArray, IntArray]:
    """The lengths of both sides: log-normal, and correlated. Pairs that are too long are left out."""
    random = np.random.default_rng(seed)
    covariance = SPREAD**2 * np.array([[1.0, CORRELATION], [CORRELATION, 1.0]])
    normal = random.multivariate_normal([0.0, 0.0], covariance, size=num_pairs)
    lengths = np.rint(np.exp(normal + np.log(MEANS) - SPREAD**2 / 2)).astype(np.int64)
    source, target = np.maximum(lengths[lengths.max(axis=1) <= LONGEST], 2).T
    return source, target


def draw_batches(num_batches: int, *, tokens_per_batch: int, vocab_size: int, seed: int) -> list[Batch]:
    """Batches of the plan that training would follow, of at most this many tokens on each side."""
    lengths = draw_lengths(num_batches * tokens_per_batch, seed=seed)
    plan = BatchPlan(*lengths, tokens_per_batch, seed)
    random = np.random.default_rng(seed)
    batches = []
    for step in range(num_batches):
        rows = plan.step_rows(step)
        source, target = (_draw_padded(side[rows], vocab_size, random) for side in lengths)
        batches.append(make_batch(source, target, step_target_tokens=int(lengths[1][rows].sum()), step=step))
    return batches


def draw_sources(num_batches: int, *, batch_size: int, vocab_size: int, seed: int) -> list[list[list[int]]]:
    """Batches of sources for decoding. The sentences of a batch have one length, so no side has padding."""
    lengths = np.sort(draw_lengths(2 * num_batches * batch_size + 100, seed=seed)[0])
    picked = lengths[np.linspace(0, len(lengths) - 1, num_batches + 2).astype(int)[1:-1]]
    random = np.random.default_rng(seed)
    random.shuffle(picked)
    return [_draw_padded(np.full(batch_size, length), vocab_size, random).tolist() for length in picked]


def _draw_padded(length_B: IntArray, vocab_size: int, random: np.random.Generator) -> NDArray[np.int64]:
    position_X = np.arange(int(length_B.max()))
    ids_BX = random.integers(EOS_ID + 1, vocab_size, (len(length_B), len(position_X)))
    ids_BX[position_X == length_B[:, None] - 1] = EOS_ID
    ids_BX[position_X >= length_B[:, None]] = PAD_ID
    return ids_BX
