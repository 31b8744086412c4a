"""Greedy and beam search (section 6.1) over a step function; they know neither the model nor text.

A piece's log-probability is the model's own; the pieces of `banned` are never chosen. A hypothesis counts its EOS:
its score is the sum of its log-probabilities, EOS included, over the length penalty of Wu et al. 2016 (GNMT),
equation 14: ((5 + length) / 6)^alpha.

Legend: B sentences, K beams a sentence, N rows (B x K), V vocabulary.
"""

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from lit_transformer.decoding.beams import Beams, Hypothesis, SpecialIds, length_penalty, log_probabilities, until_eos
from lit_transformer.decoding.settings import SearchSettings


class SearchState(Protocol):
    """What a step function remembers. The rows of a sentence lie side by side, K of them."""

    def reorder(self, row_N: Tensor) -> Self:
        """Row i continues what was row `row_N[i]`, of the same sentence."""

    def keep(self, sentence_B: Tensor) -> Self:
        """Only these sentences go on."""


State = TypeVar("State", bound=SearchState)
StepFunction = Callable[[Tensor, State], tuple[Tensor, State]]
"""(last piece of every row N, state) -> (logits of the next piece N x V, state)."""


# A sentence's end is asked for on a GPU only every so often: the answer has to come back to the host.
STEPS_PER_CHECK = {"cpu": 1}
STEPS_PER_CHECK_ELSEWHERE = 8
# Dropping finished sentences copies the state; it pays once a quarter of the sentences has finished.
FINISHED_SHARE = 0.25


def greedy_search(
    step: StepFunction[State], state: State, *, max_length_B: Tensor, ids: SpecialIds, alpha: float
) -> list[list[Hypothesis]]:
    """The most probable piece at every position, until EOS or `max_length_B` pieces; one hypothesis a sentence.

    Args:
        step: The model.
        state: Its state before the first piece, one row a sentence.
        max_length_B: The most pieces of each sentence's output, EOS included.
        ids: Special ids.
        alpha: Exponent of the length penalty; here it changes the score that is returned and nothing else.
    """
    sentences, device = len(max_length_B), max_length_B.device
    every = STEPS_PER_CHECK.get(device.type, STEPS_PER_CHECK_ELSEWHERE)
    token_N = torch.full((sentences,), ids.bos, device=device)
    done_B = torch.zeros(sentences, dtype=torch.bool, device=device)
    total_B = torch.zeros(sentences, dtype=torch.float32, device=device)
    length_B = torch.zeros_like(token_N)
    tokens: list[Tensor] = []
    for length in range(1, int(max_length_B.max()) + 1):
        logits_NV, state = step(token_N, state)
        best = log_probabilities(logits_NV, ids).max(dim=-1)
        token_N = best.indices.masked_fill(done_B, ids.eos)
        total_B = total_B + best.values.masked_fill(done_B, 0.0)
        length_B = length_B + (~done_B)
        tokens.append(token_N)
        done_B = done_B | (token_N == ids.eos) | (max_length_B <= length)
        if length % every == 0 and bool(done_B.all()):
            break
    score_B = total_B / length_penalty(length_B, alpha)
    rows = zip(torch.stack(tokens, dim=1).tolist(), length_B.tolist(), score_B.tolist(), strict=True)
    return [[Hypothesis(until_eos(row[:length], ids.eos), score)] for row, length, score in rows]


def beam_search(
    step: StepFunction[State],
    state: State,
    *,
    settings: SearchSettings,
    max_length_B: Tensor,
    ids: SpecialIds,
) -> list[list[Hypothesis]]:
    """The best hypotheses of every sentence, best first, that a beam of `beam_size` finds.

    Each step ranks all continuations of a sentence's live hypotheses. Those among the best `beam_size` that say EOS
    are finished; the best `beam_size` others live on. A sentence ends when it has `n_best` finished hypotheses that
    no live one can surpass: log-probabilities are not positive and the penalty grows with the length, so whatever
    becomes of a live hypothesis scores at most (its sum so far) / penalty(max_length). It also ends at
    `max_length_B` pieces, where unfinished hypotheses fill up the places that finished ones left empty.

    With `beam_size` 1 there is nothing to rank: that is `greedy_search`.

    Args:
        step: The model.
        state: Its state before the first piece, with `beam_size` rows a sentence.
        settings: Size of the beam, length penalty, and how many hypotheses to return.
        max_length_B: The most pieces of each sentence's output, EOS included.
        ids: Special ids.
    """
    beam_size, n_best, alpha = settings.beam_size, settings.n_best, settings.length_penalty
    if beam_size == 1:
        return greedy_search(step, state, max_length_B=max_length_B, ids=ids, alpha=alpha)
    device = max_length_B.device
    every = STEPS_PER_CHECK.get(device.type, STEPS_PER_CHECK_ELSEWHERE)
    limits = set(max_length_B.tolist())
    beams = Beams.start(max_length_B, beam_size, ids)
    results: list[list[Hypothesis]] = [[] for _ in range(len(max_length_B))]
    for length in range(1, int(max_length_B.max()) + 1):
        logits_NV, state = step(beams.last_token_N(), state)
        row_N = beams.advance(logits_NV, length, n_best, alpha)
        state = state.reorder(row_N)
        if length in limits:
            beams.stop_at_limit(length, alpha)
        if length % every:
            continue
        done_B = beams.done_B.tolist()
        if all(done_B) or sum(done_B) >= FINISHED_SHARE * len(done_B):
            beams.collect(results, n_best)
            going_B = (~beams.done_B).nonzero()[:, 0]
            if len(going_B) == 0:
                return results
            beams, state = beams.keep(going_B), state.keep(going_B)
    beams.collect(results, n_best)
    return results
