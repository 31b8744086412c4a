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

from torch import Tensor

from lit_transformer.decoding.beams import Beams
from lit_transformer.decoding.greedy import Greedy
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.scoring import Adjust, Scorer, SpecialIds
from lit_transformer.search_settings import SearchSettings


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
    scorer = Scorer.create(ids, prefix, adjust, max_length_B, settings)
    if settings.beam_size == 1:
        return greedy_search(step, state, Greedy.start(scorer, settings, max_length_B), on_step)
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


def greedy_search(
    step: StepFunction[State], state: State, greedy: Greedy, on_step: OnStep | None
) -> list[list[Hypothesis]]:
    """One token at every position until EOS or the greatest length. There is nothing to reorder or to compare."""
    steps_per_check = STEPS_PER_CHECK.get(greedy.max_length_B.device.type, STEPS_PER_CHECK_ELSEWHERE)
    for length in range(1, int(greedy.max_length_B.max()) + 1):
        logits_NV, state = step(greedy.last_token_N(), state)
        was_done_B = greedy.done_B
        greedy.advance(logits_NV, length)
        greedy.stop_at_limit(length)
        if on_step is not None:
            on_step(greedy.sentence_B[~was_done_B], greedy.live.tokens_BXT[~was_done_B])
        if length % steps_per_check == 0 and bool(greedy.done_B.all()):
            break
    return greedy.results()
