"""Greedy and beam search (section 6.1) over a step function. They know neither the model nor text.

A hypothesis is scored by the sum of the log-probabilities of its tokens and of EOS, divided by the length penalty
((5 + length) / 6)^alpha of Wu et al. 2016 (GNMT), equation 14. Its length counts EOS and leaves out the first token.

When may a search stop? Log-probabilities are never positive, so the sum of a live hypothesis can only fall. It is
divided by a penalty that grows with the length, up to that of the greatest length. So no continuation of a live
hypothesis scores more than

    (its sum so far) / (penalty of the greatest length).

A sentence is done as soon as its best finished hypotheses, as many as are returned, score at least this much for its
best live hypothesis: nothing that the search could still find would change the result.

Legend: B batch, N rows (batch x beams), T target length, V vocabulary, X any size.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, Self, TypeVar

import torch
from torch import Tensor

from lit_transformer.decoding.beams import Beams
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.scoring import Adjust, Scorer, SpecialIds, length_penalty
from lit_transformer.decoding.settings import SearchSettings


class SearchState(Protocol):
    """What a step function remembers. The rows of a sentence lie side by side, one per beam."""

    def reorder(self, row_N: Tensor) -> Self:
        """Reorder the rows: new row i continues old row `row_N[i]`, which belongs to the same sentence."""

    def keep(self, sentence_B: Tensor) -> Self:
        """Only these sentences continue."""


State = TypeVar("State", bound=SearchState)
StepFunction = Callable[[Tensor, State], tuple[Tensor, State]]
"""(last token of every row N, state) -> (logits of the next token N x V, state)."""
OnStep = Callable[[Tensor, Tensor], None]
"""(numbers of the sentences that took the step B, their live hypotheses so far, best first, B x beams x T)."""

# Steps between checks of whether sentences are done. On a GPU, each check makes the host wait.
STEPS_PER_CHECK = {"cpu": 1}
STEPS_PER_CHECK_ELSEWHERE = 8
# Dropping sentences copies the state. It pays once a quarter of them is done.
DONE_SHARE = 0.25


def beam_search(
    step: StepFunction[State],
    state: State,
    *,
    settings: SearchSettings,
    max_length_B: Tensor,
    ids: SpecialIds,
    prefix: Sequence[Sequence[int]] | None = None,
    adjust: Adjust | None = None,
    on_step: OnStep | None = None,
) -> list[list[Hypothesis]]:
    """Find the best hypotheses of every sentence.

    Each step ranks all continuations of a sentence's live hypotheses. Those among the best `beam_size` that end in EOS
    are finished. The best `beam_size` others live on. A sentence is done when its result is certain, or at its greatest
    length, where live hypotheses take the places that finished ones left empty. So hypotheses that were cut come after
    all finished ones, whatever their score.

    With `beam_size` 1 it is greedy search: the best token at every position.

    Args:
        step: The model.
        state: Its state before the first token, with `beam_size` rows per sentence.
        settings: How to search.
        max_length_B: The greatest length of each sentence's hypotheses. EOS counts, the first token does not. If it is
            not more than `settings.min_length`, no hypothesis can be finished, unless `prefix` ends it.
        ids: The special ids.
        prefix: Tokens that the hypotheses of each sentence begin with, at least one. The default is `ids.bos`. The
            tokens after the first one are scored like any others. Prefixes may differ in length: the search starts at
            the end of the shortest, while the tokens of the longer ones are still forced.
        adjust: Changes what the search ranks by. It is called with the tokens so far of every row, N x T, and the
            log-probabilities of the next token, N x V, minus infinity for banned tokens. It returns N x V values, which
            the search adds up instead of the log-probabilities. It must not change its arguments. With more than one
            beam the values must not be positive, because the search would stop too early.
        on_step: Called after every step with the numbers of the sentences that took it, B, and the tokens of their live
            hypotheses, best first, B x beams x T.

    Returns:
        At most `settings.num_returned` hypotheses per sentence, best first. Their tokens leave out the first one.

    Raises:
        UserError: If `prefix` does not have at least one token for each sentence.
    """
    scorer = Scorer.create(ids, prefix, adjust, max_length_B, settings.min_length)
    if settings.beam_size == 1:
        return _greedy_search(step, state, scorer, settings.length_penalty, max_length_B, on_step)
    steps_per_check = STEPS_PER_CHECK.get(max_length_B.device.type, STEPS_PER_CHECK_ELSEWHERE)
    limits = set(max_length_B.tolist())
    beams = Beams.start(scorer, settings, max_length_B)
    results: list[list[Hypothesis]] = [[] for _ in range(len(max_length_B))]
    for length in range(1, int(max_length_B.max()) + 1):
        logits_NV, state = step(beams.last_token_N(), state)
        was_done_B = beams.done_B
        row_N = beams.advance(logits_NV, length)
        state = state.reorder(row_N)
        if on_step is not None:
            on_step(beams.sentence_B[~was_done_B], beams.live.tokens_BXT[~was_done_B])
        if length in limits:
            beams.stop_at_limit(length)
        if length % steps_per_check:
            continue
        done_B = beams.done_B.tolist()
        if all(done_B) or sum(done_B) >= DONE_SHARE * len(done_B):
            beams.collect(results)
            sentence_B = (~beams.done_B).nonzero()[:, 0]
            if len(sentence_B) == 0:
                return results
            beams, state = beams.keep(sentence_B), state.keep(sentence_B)
    beams.collect(results)
    return results


def _greedy_search(
    step: StepFunction[State],
    state: State,
    scorer: Scorer,
    alpha: float,
    max_length_B: Tensor,
    on_step: OnStep | None,
) -> list[list[Hypothesis]]:
    """The best token at every position until EOS or the greatest length. There is nothing to reorder or to compare."""
    device = max_length_B.device
    steps_per_check = STEPS_PER_CHECK.get(device.type, STEPS_PER_CHECK_ELSEWHERE)
    sentence_B = torch.arange(len(max_length_B), device=device)
    tokens, token_scores = [scorer.start_B], list[Tensor]()
    done_B = torch.zeros_like(max_length_B, dtype=torch.bool)
    total_B = torch.zeros_like(max_length_B, dtype=torch.float32)
    length_B = torch.zeros_like(max_length_B)
    for length in range(1, int(max_length_B.max()) + 1):
        logits_NV, state = step(tokens[-1], state)
        scores = scorer.score(logits_NV, length, sentence_B, lambda: torch.stack(tokens, dim=1))
        best = scores.rank_NV.max(dim=-1)
        token_B = best.indices.masked_fill(done_B, scorer.eos)
        total_B = total_B + best.values.masked_fill(done_B, 0.0)
        length_B = length_B + (~done_B)
        tokens.append(token_B)
        token_scores.append(scores.log_prob_NV.gather(1, token_B[:, None])[:, 0])
        if on_step is not None:
            on_step(sentence_B[~done_B], torch.stack(tokens, dim=1)[~done_B, None])
        done_B = done_B | (token_B == scorer.eos) | (max_length_B <= length)
        if length % steps_per_check == 0 and bool(done_B.all()):
            break
    score_B = total_B / length_penalty(length_B, alpha)
    columns = (torch.stack(tokens[1:], dim=1), torch.stack(token_scores, dim=1), length_B, score_B)
    return [
        [Hypothesis.create(row[:length], row_scores[:length], score, eos=scorer.eos)]
        for row, row_scores, length, score in zip(*(column.tolist() for column in columns), strict=True)
    ]
