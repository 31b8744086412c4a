"""Hypotheses: the results of a search, and the sequences that it extends.

Legend: B batch, W beams, T target length, X any size.
"""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

FILLER_SCORE = math.nan
"""Score of an EOS that pads a finished sequence to the length of the live ones."""


class Hypothesis(NamedTuple):
    """What a search found for a sentence."""

    tokens: list[int]
    """All tokens after the first one, without EOS."""
    score: float
    """What the search ranks by: the sum over all tokens and EOS, divided by the length penalty."""
    token_scores: list[float]
    """The model's own log-probability of each token. If the hypothesis is finished, the last one is that of EOS."""

    @property
    def finished(self) -> bool:
        """Whether it ended with EOS. If not, it was cut at the length limit."""
        return len(self.token_scores) > len(self.tokens)

    @classmethod
    def create(cls, tokens: list[int], token_scores: list[float], score: float, *, eos: int) -> Self:
        """A hypothesis from tokens that may end with EOS, with one score per token."""
        end = tokens.index(eos) if eos in tokens else len(tokens)
        return cls(tokens[:end], score, [each for each in token_scores[: end + 1] if not math.isnan(each)])


class Sequences(NamedTuple):
    """Token sequences of one length, and the model's log-probability of each token but the first."""

    tokens_BXT: Tensor
    scores_BXT: Tensor

    @classmethod
    def start(cls, tokens_BX: Tensor) -> Self:
        """Sequences of one token each."""
        return cls(tokens_BX[:, :, None], torch.zeros_like(tokens_BX, dtype=torch.float32)[:, :, None])

    def append(self, tokens_BX: Tensor, scores_BX: Tensor) -> Self:
        """Each sequence with one more token."""
        return type(self)(
            torch.cat([self.tokens_BXT, tokens_BX[:, :, None]], dim=2),
            torch.cat([self.scores_BXT, scores_BX[:, :, None]], dim=2),
        )

    def take(self, index_BW: Tensor) -> Self:
        """The sequences at these places of every sentence, in this order."""
        index_BWT = index_BW[:, :, None].expand(-1, -1, self.tokens_BXT.shape[2])
        return type(self)(self.tokens_BXT.gather(1, index_BWT), self.scores_BXT.gather(1, index_BWT))

    def join(self, others: Self) -> Self:
        """These sequences of every sentence, followed by others."""
        return type(self)(*(torch.cat(pair, dim=1) for pair in zip(self, others, strict=True)))

    def keep(self, sentence_B: Tensor) -> Self:
        """The sequences of these sentences."""
        return type(self)(self.tokens_BXT[sentence_B], self.scores_BXT[sentence_B])
