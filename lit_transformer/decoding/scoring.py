"""What a search ranks by: log-probabilities, forced tokens, adjustments, and the length penalty.

Legend: B batch, N rows (batch x beams), T target length, V vocabulary, C candidates, X any size.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Self, overload

import torch
from torch import Tensor

from lit_transformer.decoding.hypotheses import FILLER_SCORE
from lit_transformer.errors import UserError
from lit_transformer.search_settings import SearchSettings

Adjust = Callable[[Tensor, Tensor], Tensor]
"""(tokens so far N x T, log-probabilities of the next token N x V) -> what the search ranks by instead, N x V."""
FREE = -1
"""Marks positions after the end of a shorter prefix, where no token is forced."""


class SpecialIds(NamedTuple):
    """What a search has to know about the vocabulary."""

    bos: int
    eos: int
    banned: tuple[int, ...]
    """Tokens that are never chosen."""
    unk: int | None = None
    """The one of them that `SearchSettings.unknown` allows."""


class TokenScores(NamedTuple):
    """Two scores of every token that may come next. Minus infinity excludes a token."""

    log_prob_NV: Tensor
    """The model's own log-probabilities, at least in float32."""
    rank_NV: Tensor
    """What the search adds up and ranks by. They are the same unless there is something to adjust."""


@dataclass(frozen=True)
class Scorer:
    """Scores the next token of every hypothesis.

    A forced token is the only choice, even if it is banned. `adjust` does not change its score.
    """

    eos: int
    banned_X: Tensor
    early_banned_X: Tensor
    """What is banned until a hypothesis has `min_length` tokens: EOS, too."""
    min_length: int
    max_length: int | None
    """Of this many tokens, the last one must be EOS."""
    adjust: Adjust | None
    start_B: Tensor
    """The first token of each sentence."""
    forced_BT: Tensor | None
    """The prefix of each sentence, then `FREE`. None if a prefix is only the first token."""

    @classmethod
    def create(
        cls,
        ids: SpecialIds,
        prefix: Sequence[Sequence[int]] | None,
        adjust: Adjust | None,
        max_length_B: Tensor,
        settings: SearchSettings,
    ) -> Self:
        """The scorer of a search, from arguments of `beam_search`."""
        never = tuple(token for token in ids.banned if not (settings.unknown and token == ids.unk))
        banned_X, early_banned_X = (
            torch.tensor(banned, dtype=torch.int64, device=max_length_B.device) for banned in (never, (*never, ids.eos))
        )
        create = partial(cls, ids.eos, banned_X, early_banned_X, settings.min_length, settings.max_length, adjust)
        if prefix is None:
            return create(torch.full_like(max_length_B, ids.bos), None)
        if len(prefix) != len(max_length_B) or not all(prefix):
            raise UserError(f"prefix has {len(prefix)} rows: give at least one token for each of {len(max_length_B)}")
        longest = max(map(len, prefix))
        rows = [[*tokens, *[FREE] * (longest - len(tokens))] for tokens in prefix]
        forced_BT = torch.tensor(rows, device=max_length_B.device)
        return create(forced_BT[:, 0], forced_BT)

    def score(
        self, logits_NV: Tensor, length: int | Tensor, sentence_B: Tensor, get_tokens: Callable[[], Tensor]
    ) -> TokenScores:
        """Score the tokens that may come next.

        Args:
            logits_NV: The model's logits.
            length: Tokens so far, the first one included.
            sentence_B: The numbers of the sentences that the rows belong to.
            get_tokens: Returns the tokens so far, N x T. It is called only if there is something to adjust.
        """
        log_prob_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)).log_softmax(dim=-1)
        if self.forced_BT is None or length >= self.forced_BT.shape[1]:
            self.ban(log_prob_NV, length)
            return self._ended(TokenScores(log_prob_NV, self._adjusted(log_prob_NV, get_tokens)), length)
        forced_N1 = self.forced_BT[sentence_B, length].repeat_interleave(len(logits_NV) // len(sentence_B))[:, None]
        is_forced_N1, index_N1 = forced_N1 != FREE, forced_N1.clamp(min=0)
        alone_NV = torch.full_like(log_prob_NV, float("-inf"))
        alone_NV = alone_NV.scatter(1, index_N1, log_prob_NV.gather(1, index_N1))
        self.ban(log_prob_NV, length)
        rank_NV = self._adjusted(log_prob_NV, get_tokens)
        forced = (torch.where(is_forced_N1, alone_NV, free_NV) for free_NV in (log_prob_NV, rank_NV))
        return self._ended(TokenScores(*forced), length)

    def ban(self, log_prob_NV: Tensor, length: int | Tensor) -> None:
        """Exclude the tokens that must not come next, in place."""
        log_prob_NV.index_fill_(1, self.banned_X if length > self.min_length else self.early_banned_X, float("-inf"))

    def _ended(self, scores: TokenScores, length: int | Tensor) -> TokenScores:
        """At the greatest length, EOS is the only choice and costs nothing. It has no score: the hypothesis is cut."""
        if self.max_length is None or (isinstance(length, int) and length < self.max_length):
            return scores
        is_last = torch.as_tensor(length >= self.max_length, device=scores.rank_NV.device)
        alone_V = torch.full_like(scores.rank_NV[0], float("-inf"))
        alone_V[self.eos] = 0.0
        none_V = torch.zeros_like(alone_V)
        none_V[self.eos] = FILLER_SCORE
        return TokenScores(
            torch.where(is_last, none_V, scores.log_prob_NV), torch.where(is_last, alone_V, scores.rank_NV)
        )

    def _adjusted(self, log_prob_NV: Tensor, get_tokens: Callable[[], Tensor]) -> Tensor:
        return log_prob_NV if self.adjust is None else self.adjust(get_tokens(), log_prob_NV)


@overload
def length_penalty(length: float, alpha: float) -> float: ...
@overload
def length_penalty(length: Tensor, alpha: float) -> Tensor: ...


def length_penalty(length: float | Tensor, alpha: float) -> float | Tensor:
    """((5 + length) / 6)^alpha, GNMT's equation 14. The paper's alpha is 0.6."""
    return ((5.0 + length) / 6.0) ** alpha


@overload
def divisor(length: int, settings: SearchSettings) -> float: ...
@overload
def divisor(length: Tensor, settings: SearchSettings) -> Tensor: ...
@overload
def divisor(length: int | Tensor, settings: SearchSettings) -> float | Tensor: ...


def divisor(length: int | Tensor, settings: SearchSettings) -> float | Tensor:
    """What the sum over the tokens of a hypothesis of this length is divided by."""
    if settings.length_normalization == "length":
        return length**settings.length_penalty
    return length_penalty(length, settings.length_penalty)


def topk(score_BX: Tensor, count: int, block: int = 256) -> tuple[Tensor, Tensor]:
    """The `count` largest scores of each row, best first, and their indices.

    It works in two stages, because a maximum is cheaper than a ranking: the largest scores lie in the blocks with the
    largest maxima.
    """
    width = score_BX.shape[1]
    if width < 4 * count * block:
        return score_BX.topk(min(count, width), dim=1)
    padded_BX = torch.nn.functional.pad(score_BX, (0, -width % block), value=float("-inf"))
    blocks_BXX = padded_BX.unflatten(1, (-1, block))
    best_BC = blocks_BXX.amax(dim=2).topk(count, dim=1).indices
    inside_BCX = blocks_BXX.gather(1, best_BC[:, :, None].expand(-1, -1, block))
    value_BC, place_BC = inside_BCX.flatten(1).topk(count, dim=1)
    index_BC = best_BC.gather(1, place_BC // block) * block + place_BC % block
    # The padding of the last block is chosen only if nothing else is left. It must still be a valid index.
    return value_BC, index_BC.clamp(max=width - 1)
