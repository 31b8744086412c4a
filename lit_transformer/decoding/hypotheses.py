"""Hypotheses: the results of a search, and the sequences that it extends.

Legend: B batch, W beams, T target length, X any size.
"""

import math
from dataclasses import dataclass
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


@dataclass(slots=True)
class Sequences:
    """Token sequences of one length, and the model's log-probability of each token but the first."""

    tokens_BXT: Tensor
    scores_BXT: Tensor

    @classmethod
    def start(cls, tokens_BX: Tensor) -> "Sequences":
        """Sequences of one token each."""
        return Sequences(tokens_BX[:, :, None], torch.zeros_like(tokens_BX, dtype=torch.float32)[:, :, None])

    def replaced(self, tokens_BXT: Tensor, scores_BXT: Tensor) -> Self:
        """Other sequences of the same kind."""
        return type(self)(tokens_BXT, scores_BXT)

    def last(self) -> Tensor:
        """The last token of each sequence, B x X."""
        return self.tokens_BXT[:, :, -1]

    def append(self, tokens_BX: Tensor, scores_BX: Tensor) -> Self:
        """Each sequence with one more token."""
        return self.replaced(
            torch.cat([self.tokens_BXT, tokens_BX[:, :, None]], dim=2),
            torch.cat([self.scores_BXT, scores_BX[:, :, None]], dim=2),
        )

    def take(self, index_BW: Tensor) -> Self:
        """The sequences at these places of every sentence, in this order."""
        index_BWT = index_BW[:, :, None].expand(-1, -1, self.tokens_BXT.shape[2])
        return self.replaced(self.tokens_BXT.gather(1, index_BWT), self.scores_BXT.gather(1, index_BWT))

    def join(self, others: "Sequences") -> Self:
        """These sequences of every sentence, followed by others."""
        return self.replaced(
            torch.cat([self.tokens_BXT, others.tokens_BXT], dim=1),
            torch.cat([self.scores_BXT, others.scores_BXT], dim=1),
        )

    def keep(self, sentence_B: Tensor) -> Self:
        """The sequences of these sentences."""
        return self.replaced(self.tokens_BXT[sentence_B], self.scores_BXT[sentence_B])


@dataclass(slots=True)
class FixedSequences(Sequences):
    """Sequences whose tensors have all their places from the start. Those that are free hold EOS of `FILLER_SCORE`."""

    length_1: Tensor
    """The tokens of a sequence after the first one, with the one that is appended next."""

    @classmethod
    def create(cls, tokens_BX: Tensor, *, eos: int, longest: int, length_1: Tensor) -> Self:
        """Sequences of one token each, with places for `longest` more."""
        tokens_BXT = tokens_BX.new_full((*tokens_BX.shape, 1 + longest), eos)
        scores_BXT = torch.full_like(tokens_BXT, FILLER_SCORE, dtype=torch.float32)
        tokens_BXT[:, :, 0], scores_BXT[:, :, 0] = tokens_BX, 0.0
        return cls(tokens_BXT, scores_BXT, length_1)

    def replaced(self, tokens_BXT: Tensor, scores_BXT: Tensor) -> Self:
        return type(self)(tokens_BXT, scores_BXT, self.length_1)

    def last(self) -> Tensor:
        return self.tokens_BXT.index_select(2, self.length_1 - 1)[:, :, 0]

    def append(self, tokens_BX: Tensor, scores_BX: Tensor) -> Self:
        return self.replaced(
            self.tokens_BXT.index_copy(2, self.length_1, tokens_BX[:, :, None]),
            self.scores_BXT.index_copy(2, self.length_1, scores_BX[:, :, None].to(self.scores_BXT.dtype)),
        )
