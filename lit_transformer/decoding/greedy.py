"""Greedy search: one hypothesis per sentence, which takes the best token at every position, or one that is drawn.

Legend: B batch, N rows (batch x beams), V vocabulary, T target length, X any size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from lit_transformer.decoding.hypotheses import Hypothesis, Sequences
from lit_transformer.decoding.scoring import Scorer, divisor
from lit_transformer.search_settings import SearchSettings

Choose = Callable[[Tensor, int | Tensor], Tensor]
"""(what every token that may come next is ranked by N x V, tokens so far) -> the token that each row takes, N."""


def best_token(rank_NV: Tensor, length: int | Tensor) -> Tensor:  # noqa: ARG001 # for draws
    """The token with the largest value."""
    return rank_NV.argmax(dim=-1)


@dataclass
class Greedy:
    """The hypotheses of all sentences."""

    settings: SearchSettings
    scorer: Scorer
    sentence_B: Tensor
    """The number of each sentence."""
    max_length_B: Tensor
    done_B: Tensor
    """Whether a sentence has ended, with EOS or at its limit."""
    live: Sequences
    """The hypotheses. After its end, one is continued with EOS, which does not count."""
    total_B: Tensor
    """The sum over the tokens of each hypothesis."""
    length_B: Tensor
    """The tokens of each hypothesis, with EOS and without the first one."""
    choose: Choose = best_token

    @classmethod
    def start(
        cls,
        scorer: Scorer,
        settings: SearchSettings,
        max_length_B: Tensor,
        start: Callable[[Tensor], Sequences] = Sequences.start,
    ) -> Self:
        """The first token of every sentence. `start` makes the sequences of the first tokens."""
        return cls(
            settings,
            scorer,
            sentence_B=torch.arange(len(max_length_B), device=max_length_B.device),
            max_length_B=max_length_B,
            done_B=torch.zeros_like(max_length_B, dtype=torch.bool),
            live=start(scorer.start_B[:, None]),
            total_B=torch.zeros_like(max_length_B, dtype=torch.float32),
            length_B=torch.zeros_like(max_length_B),
        )

    def last_token_N(self) -> Tensor:
        """The last token of every hypothesis."""
        return self.live.last()[:, 0]

    def advance(self, logits_NV: Tensor, length: int | Tensor) -> None:
        """Extend the hypotheses to `length` tokens after the first one.

        Args:
            logits_NV: The model's logits of the next token.
            length: Tokens that the extended hypotheses have after the first one.
        """
        scores = self.scorer.score(logits_NV, length, self.sentence_B, lambda: self.live.tokens_BXT[:, 0])
        token_B = self.choose(scores.rank_NV, length).masked_fill(self.done_B, self.scorer.eos)
        token_B1 = token_B[:, None]
        self.total_B = self.total_B + scores.rank_NV.gather(1, token_B1)[:, 0].masked_fill(self.done_B, 0.0)
        self.length_B = self.length_B + (~self.done_B)
        self.live = self.live.append(token_B1, scores.log_prob_NV.gather(1, token_B1))
        self.done_B = self.done_B | (token_B == self.scorer.eos)

    def stop_at_limit(self, length: int | Tensor) -> None:
        """End the sentences that reach their limit with `length` tokens."""
        self.done_B = self.done_B | (self.max_length_B <= length)

    def results(self) -> list[list[Hypothesis]]:
        """The hypothesis of each sentence."""
        score_B = self.total_B / divisor(self.length_B, self.settings)
        columns = (self.live.tokens_BXT[:, 0, 1:], self.live.scores_BXT[:, 0, 1:], self.length_B, score_B)
        return [
            [Hypothesis.create(row[:length], row_scores[:length], score, eos=self.scorer.eos)]
            for row, row_scores, length, score in zip(*(column.tolist() for column in columns), strict=True)
        ]
