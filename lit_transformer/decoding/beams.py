"""Hypotheses of a beam search: ranked, finished, kept apart sentence by sentence; all sentences at a time.

Legend: B sentences, K beams a sentence, N rows (B x K), V vocabulary, C candidates (2K), T pieces so far.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Hypothesis(NamedTuple):
    """A translation in pieces, without EOS, and its score."""

    tokens: list[int]
    score: float


class SpecialIds(NamedTuple):
    """What search must know of the vocabulary."""

    bos: int
    eos: int
    banned: tuple[int, ...]


def length_penalty(length: Tensor | int, alpha: float) -> Tensor | float:
    """((5 + length) / 6)^alpha, GNMT's equation 14; the paper's alpha is 0.6."""
    return ((5.0 + length) / 6.0) ** alpha


@dataclass
class Beams:
    """The live and the finished hypotheses of the sentences that go on."""

    ids: SpecialIds
    sentence_B: Tensor
    """Which of the caller's sentences each one is."""
    max_length_B: Tensor
    done_B: Tensor
    score_BK: Tensor
    """Sums of log-probabilities of the live hypotheses; minus infinity where there is none."""
    tokens_BKT: Tensor
    """The live hypotheses' pieces, BOS first."""
    finished_score_BK: Tensor
    """Penalised scores, best first; minus infinity where there is none."""
    finished_tokens_BKT: Tensor
    """The finished hypotheses' pieces, BOS first, filled up with EOS."""

    @classmethod
    def start(cls, max_length_B: Tensor, beam_size: int, ids: SpecialIds) -> Self:
        """One live hypothesis a sentence: nothing but BOS."""
        sentences, device = len(max_length_B), max_length_B.device
        nothing_BK = torch.full((sentences, beam_size), float("-inf"), dtype=torch.float32, device=device)
        score_BK = nothing_BK.clone()
        score_BK[:, 0] = 0.0
        bos_BK1 = torch.full((sentences, beam_size, 1), ids.bos, device=device)
        sentence_B = torch.arange(sentences, device=device)
        done_B = torch.zeros(sentences, dtype=torch.bool, device=device)
        return cls(ids, sentence_B, max_length_B, done_B, score_BK, bos_BK1, nothing_BK, bos_BK1)

    def last_token_N(self) -> Tensor:
        """What every row said last."""
        return self.tokens_BKT[:, :, -1].flatten()

    def advance(self, logits_NV: Tensor, length: int, n_best: int, alpha: float) -> Tensor:
        """Takes the step to hypotheses of `length` pieces; returns the row that each new row continues, N."""
        beam_size = self.score_BK.shape[1]
        log_prob_NV = log_probabilities(logits_NV, self.ids)
        vocab_size = log_prob_NV.shape[1]
        candidate_BKV = self.score_BK[:, :, None] + log_prob_NV.unflatten(0, self.score_BK.shape)
        score_BC, flat_BC = topk(candidate_BKV.flatten(1), 2 * beam_size)
        parent_BC = torch.div(flat_BC, vocab_size, rounding_mode="floor")
        token_BC = flat_BC - parent_BC * vocab_size
        ends_BC = token_BC == self.ids.eos
        penalty = length_penalty(length, alpha)
        ended_BK = (score_BC / penalty).masked_fill(~ends_BC, float("-inf"))[:, :beam_size]
        self._finish(ended_BK, parent_BC[:, :beam_size])
        # At most K candidates say EOS, one a beam, so K of the 2K live on (fewer where the vocabulary is tiny).
        self.score_BK, rank_BK = score_BC.masked_fill(ends_BC, float("-inf")).topk(beam_size, dim=1)
        parent_BK = parent_BC.gather(1, rank_BK)
        token_BK1 = token_BC.gather(1, rank_BK)[:, :, None]
        self.tokens_BKT = torch.cat([_take(self.tokens_BKT, parent_BK), token_BK1], dim=2)
        self._stop(length, n_best, alpha)
        first_row_B1 = torch.arange(len(parent_BK), device=parent_BK.device)[:, None] * beam_size
        return (first_row_B1 + parent_BK).flatten()

    def _finish(self, ended_BK: Tensor, parent_BK: Tensor) -> None:
        """Merges the hypotheses that end now into the best finished ones."""
        eos_BK1 = torch.full_like(parent_BK, self.ids.eos)[:, :, None]
        ended_tokens_BKT = torch.cat([_take(self.tokens_BKT, parent_BK), eos_BK1], dim=2)
        kept_tokens_BKT = torch.cat([self.finished_tokens_BKT, eos_BK1], dim=2)
        score_BC = torch.cat([self.finished_score_BK, ended_BK], dim=1)
        rank_BK = score_BC.topk(ended_BK.shape[1], dim=1).indices
        # What is done keeps its order: unfinished hypotheses come last there, whatever their score.
        place_K = torch.arange(rank_BK.shape[1], device=rank_BK.device)
        rank_BK = torch.where(self.done_B[:, None], place_K, rank_BK)
        self.finished_score_BK = score_BC.gather(1, rank_BK)
        self.finished_tokens_BKT = _take(torch.cat([kept_tokens_BKT, ended_tokens_BKT], dim=1), rank_BK)

    def _stop(self, length: int, n_best: int, alpha: float) -> None:
        """Marks the sentences whose result is certain; their live hypotheses go no further."""
        bound_B = self.score_BK[:, 0] / length_penalty(self.max_length_B, alpha)
        self.done_B = self.done_B | (self.finished_score_BK[:, n_best - 1] >= bound_B)
        self.score_BK = self.score_BK.masked_fill(self.done_B[:, None], float("-inf"))

    def stop_at_limit(self, length: int, alpha: float) -> None:
        """Sentences at their limit are done: the live hypotheses take the places that finished ones left empty."""
        at_limit_B = (self.max_length_B <= length) & ~self.done_B
        live_BK = (self.score_BK / length_penalty(length, alpha)).masked_fill(~at_limit_B[:, None], float("-inf"))
        place_K = torch.arange(live_BK.shape[1], device=live_BK.device)
        finished_B1 = (self.finished_score_BK > float("-inf")).sum(dim=1, keepdim=True)
        rank_BK = torch.where(place_K < finished_B1, place_K, len(place_K) + place_K - finished_B1)
        self.finished_score_BK = torch.cat([self.finished_score_BK, live_BK], dim=1).gather(1, rank_BK)
        self.finished_tokens_BKT = _take(torch.cat([self.finished_tokens_BKT, self.tokens_BKT], dim=1), rank_BK)
        self.done_B = self.done_B | at_limit_B
        self.score_BK = self.score_BK.masked_fill(self.done_B[:, None], float("-inf"))

    def collect(self, results: list[list[Hypothesis]], n_best: int) -> None:
        """Writes down the hypotheses of the sentences that are done."""
        done = self.done_B.nonzero()[:, 0]
        finished = zip(
            self.sentence_B[done].tolist(),
            self.finished_score_BK[done, :n_best].tolist(),
            self.finished_tokens_BKT[done, :n_best, 1:].tolist(),
            strict=True,
        )
        for sentence, scores, rows in finished:
            results[sentence] = [
                Hypothesis(until_eos(row, self.ids.eos), score)
                for row, score in zip(rows, scores, strict=True)
                if score > float("-inf")
            ]

    def keep(self, going_B: Tensor) -> Self:
        """Only these sentences."""
        return type(self)(
            self.ids,
            self.sentence_B[going_B],
            self.max_length_B[going_B],
            self.done_B[going_B],
            self.score_BK[going_B],
            self.tokens_BKT[going_B],
            self.finished_score_BK[going_B],
            self.finished_tokens_BKT[going_B],
        )


def log_probabilities(logits_NV: Tensor, ids: SpecialIds) -> Tensor:
    """The model's own log-probabilities, at least in float32, minus infinity where a piece may not be chosen."""
    log_prob_NV = logits_NV.to(torch.promote_types(logits_NV.dtype, torch.float32)).log_softmax(dim=-1)
    for banned in ids.banned:  # not as a list, which would be copied to the device at every step
        log_prob_NV[:, banned] = float("-inf")
    return log_prob_NV


def _take(tokens_BXT: Tensor, index_BK: Tensor) -> Tensor:
    """The hypotheses at `index_BK` of every sentence."""
    return tokens_BXT.gather(1, index_BK[:, :, None].expand(-1, -1, tokens_BXT.shape[2]))


def topk(score_BX: Tensor, count: int, block: int = 256) -> tuple[Tensor, Tensor]:
    """The `count` largest, best first, and their indices.

    In two stages, since a maximum is cheaper than a ranking: the largest lie in the blocks with the largest maxima.
    """
    width = score_BX.shape[1]
    if width < 4 * count * block:
        return score_BX.topk(min(count, width), dim=1)
    padded_BX = torch.nn.functional.pad(score_BX, (0, -width % block), value=float("-inf"))
    blocks_BYX = padded_BX.unflatten(1, (-1, block))
    best_BC = blocks_BYX.amax(dim=2).topk(count, dim=1).indices
    inside_BCX = blocks_BYX.gather(1, best_BC[:, :, None].expand(-1, -1, block))
    value_BC, place_BC = inside_BCX.flatten(1).topk(count, dim=1)
    index_BC = best_BC.gather(1, place_BC // block) * block + place_BC % block
    # The filling of the last block can come out only where nothing is left to choose; it must still be an index.
    return value_BC, index_BC.clamp(max=width - 1)


def until_eos(tokens: list[int], eos: int) -> list[int]:
    return tokens[: tokens.index(eos)] if eos in tokens else tokens
