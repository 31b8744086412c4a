"""Sampling over a step function: every next token is drawn at random. It knows neither the model nor text.

The random numbers of a token are a pure function of the seed, the number of the sentence, the number of the sample and
the position. So neither the batch nor the order of the sentences changes what is drawn.

A token is drawn by the Gumbel-max trick: the largest sum of a log-probability and Gumbel noise is a draw from these
probabilities (Gumbel 1954). Sums that differ in their last digits, as they do from batch to batch, hardly ever have
another maximum. The vocabulary is cut into blocks. The first draw takes a block and the second one a token of it, so
that few random numbers suffice.

Legend: B batch, N rows (batch x beams), V vocabulary, X any size.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_transformer.decoding.greedy import Greedy
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.scoring import Scorer, SpecialIds, topk
from lit_transformer.decoding.search import OnStep, State, StepFunction, greedy_search
from lit_transformer.search_settings import SamplingSettings, SearchSettings


def sample(
    step: StepFunction[State],
    state: State,
    *,
    settings: SearchSettings,
    max_length_B: Tensor,
    ids: SpecialIds,
    prefix: Sequence[Sequence[int]] | None = None,
    number_B: Tensor | None = None,
    on_step: OnStep | None = None,
) -> list[list[Hypothesis]]:
    """Draw hypotheses of every sentence.

    Args:
        step: The model.
        state: Its state before the first token, with `settings.num_rows` rows per sentence.
        settings: How to draw. `n_best` is the number of samples per sentence.
        max_length_B: As for `beam_search`.
        ids: As for `beam_search`.
        prefix: As for `beam_search`.
        number_B: The number of each sentence, which its random numbers depend on. By default, they count from 0.
        on_step: As for `beam_search`. Each sample is a sentence.

    Returns:
        The samples of each sentence, in the order of their numbers. Their scores are sums of the model's own
        log-probabilities, whatever the temperature, divided by the length penalty.

    Raises:
        UserError: As for `beam_search`.
    """
    assert settings.sampling is not None
    num_samples, device = settings.num_rows, max_length_B.device
    number_B = torch.arange(len(max_length_B), device=device) if number_B is None else number_B
    max_length_N = max_length_B.repeat_interleave(num_samples)
    rows = None if prefix is None else [tokens for tokens in prefix for _ in range(num_samples)]
    scorer = Scorer.create(ids, rows, None, max_length_N, settings)
    samples = Greedy.start(scorer, settings, max_length_N)
    if settings.sampling.temperature > 0.0:
        seed = torch.tensor(settings.sampling.seed, device=device)
        key_N = split_mix(split_mix(seed, number_B)[:, None], torch.arange(num_samples, device=device)).flatten()
        samples.choose = partial(draw, settings=settings.sampling, key_N=key_N)
    found = [hypothesis for [hypothesis] in greedy_search(step, state, samples, on_step)]
    return [found[first : first + num_samples] for first in range(0, len(found), num_samples)]


def draw(score_NV: Tensor, length: int | Tensor, *, settings: SamplingSettings, key_N: Tensor) -> Tensor:
    """Draw a token for every row, N.

    Args:
        score_NV: Log-probabilities, which need not be normalized. Minus infinity excludes a token.
        length: The position of the token.
        settings: How to draw.
        key_N: What identifies each row.
    """
    score_NV = filtered(score_NV, settings)
    vocab_size = score_NV.shape[1]
    size = math.isqrt(vocab_size - 1) + 1
    num_blocks = -(-vocab_size // size)
    score_NV = F.pad(score_NV, (0, num_blocks * size - vocab_size), value=float("-inf"))
    score_NXX = score_NV.unflatten(1, (num_blocks, size))
    noise_NX = gumbel(split_mix(key_N, length)[:, None], num_blocks + size)
    block_N = (score_NXX.exp().sum(dim=2).log() + noise_NX[:, :num_blocks]).argmax(dim=1)
    inside_NX = score_NXX[torch.arange(len(block_N), device=block_N.device), block_N]
    return block_N * size + (inside_NX + noise_NX[:, num_blocks:]).argmax(dim=1)


def filtered(score_NV: Tensor, settings: SamplingSettings) -> Tensor:
    """Log-probabilities at this temperature, with minus infinity for tokens that cannot be drawn."""
    if settings.temperature != 1.0:
        # The best score becomes 0, so that no temperature can make all of them minus infinity.
        score_NV = (score_NV - score_NV.amax(dim=1, keepdim=True)) / settings.temperature
    if settings.top_k is not None:
        least_N1 = topk(score_NV, settings.top_k)[0][:, -1:]
        score_NV = score_NV.masked_fill(score_NV < least_N1, float("-inf"))
    if settings.top_p is not None:
        # The least probable tokens go, as many as together have at most 1 - top_p. The most probable one stays.
        sorted_NV = _sorted(score_NV)
        num_cut_N1 = (sorted_NV.softmax(dim=1).cumsum(dim=1) <= 1 - settings.top_p).sum(dim=1, keepdim=True)
        least_N1 = sorted_NV.gather(1, num_cut_N1.clamp(max=sorted_NV.shape[1] - 1))
        score_NV = score_NV.masked_fill(score_NV < least_N1, float("-inf"))
    return score_NV


def _sorted(score_NV: Tensor) -> Tensor:
    """The scores of each row, the smallest first."""
    if score_NV.is_cpu:  # NumPy takes a quarter of the time, because torch also sorts the indices
        return torch.from_numpy(np.sort(score_NV.numpy(), axis=1))
    return score_NV.sort(dim=1).values


def gumbel(key_N1: Tensor, count: int) -> Tensor:
    """Numbers with the standard Gumbel distribution, N x `count`: a pure function of each row's key."""
    bits_NX = split_mix(key_N1, torch.arange(count, device=key_N1.device))
    # With one bit more, the sum would be rounded, and could be 1, whose noise is infinite.
    uniform_NX = (_shifted(bits_NX, 12).double() + 0.5) * 2.0**-52
    return -torch.log(-torch.log(uniform_NX))


def split_mix(state: Tensor, index: Tensor | int) -> Tensor:
    """Output number `index` of the generator SplitMix64 (Steele et al. 2014) that begins with this state.

    The numbers are 64 bits, as signed integers. Products overflow on purpose.
    """
    mixed = state + (torch.as_tensor(index, device=state.device) + 1) * _signed(0x9E3779B97F4A7C15)
    mixed = (mixed ^ _shifted(mixed, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shifted(mixed, 27)) * _signed(0x94D049BB133111EB)
    return mixed ^ _shifted(mixed, 31)


def _signed(bits: int) -> int:
    """64 bits of which the first one is set, as the signed integer that torch takes."""
    return bits - 2**64


def _shifted(bits: Tensor, count: int) -> Tensor:
    """Shifted to the right, with zeros from the left. Torch would repeat the first bit."""
    return (bits >> count) & (2 ** (64 - count) - 1)
