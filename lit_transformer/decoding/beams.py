"""The beams of a search: the live and the finished hypotheses of all sentences at once.

A live hypothesis may continue. A finished one has ended with EOS. Each step ranks the continuations of all live
hypotheses. Those that end become finished. The best of the others stay live (`Beams.advance`).

Legend: B batch, W beams, N rows (batch x beams), V vocabulary, C candidates, T target length, X any size.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from lit_transformer.decoding.hypotheses import FILLER_SCORE, Hypothesis, Sequences
from lit_transformer.decoding.scoring import Scorer, divisor, topk
from lit_transformer.search_settings import SearchSettings


@dataclass
class Beams:
    """The hypotheses of the sentences that are still searched for, at most W live and W finished ones each."""

    settings: SearchSettings
    scorer: Scorer
    sentence_B: Tensor
    """The number of each sentence among those of the caller."""
    max_length_B: Tensor
    max_penalty_B: Tensor
    """The length penalty of the greatest length."""
    done_B: Tensor
    """Whether the search of a sentence has ended."""
    live: Sequences
    """Best first."""
    live_score_BW: Tensor
    """Sums over the tokens of the live hypotheses. Minus infinity if there are fewer than W."""
    finished: Sequences
    """Best first, filled up with EOS of `FILLER_SCORE`."""
    finished_score_BW: Tensor
    """Sums over the tokens, divided by the length penalty. Minus infinity if there are fewer than W."""

    @classmethod
    def start(
        cls,
        scorer: Scorer,
        settings: SearchSettings,
        max_length_B: Tensor,
        start: Callable[[Tensor], Sequences] = Sequences.start,
    ) -> Self:
        """One live hypothesis per sentence: its first token. `start` makes the sequences of the first tokens."""
        tokens_BW = scorer.start_B[:, None].expand(-1, settings.beam_size)
        none_BW = torch.full_like(tokens_BW, float("-inf"), dtype=torch.float32)
        live_score_BW = none_BW.clone()
        live_score_BW[:, 0] = 0.0
        return cls(
            settings,
            scorer,
            sentence_B=torch.arange(len(max_length_B), device=max_length_B.device),
            max_length_B=max_length_B,
            max_penalty_B=divisor(max_length_B, settings),
            done_B=torch.zeros_like(max_length_B, dtype=torch.bool),
            live=start(tokens_BW),
            live_score_BW=live_score_BW,
            finished=start(tokens_BW),
            finished_score_BW=none_BW,
        )

    def last_token_N(self) -> Tensor:
        """The last token of every live hypothesis."""
        return self.live.last().flatten()

    def advance(self, logits_NV: Tensor, length: int | Tensor) -> Tensor:
        """Extend the hypotheses to `length` tokens.

        Args:
            logits_NV: The model's logits of the next token.
            length: Tokens that the extended hypotheses have after the first one.

        Returns:
            The old row that each new row continues, N.
        """
        beam_size = self.settings.beam_size
        scores = self.scorer.score(logits_NV, length, self.sentence_B, lambda: self.live.tokens_BXT.flatten(0, 1))
        # Candidates: every live hypothesis with every next token. The best 2 x W of a sentence are enough: at most W
        # of them end in EOS, one per live hypothesis, so W others remain (fewer if the vocabulary is tiny).
        candidate_BWV = self.live_score_BW[:, :, None] + scores.rank_NV.view(*self.live_score_BW.shape, -1)
        vocab_size = candidate_BWV.shape[2]
        score_BC, flat_BC = topk(candidate_BWV.flatten(1), 2 * beam_size)
        parent_BC = torch.div(flat_BC, vocab_size, rounding_mode="floor")
        token_BC = flat_BC % vocab_size
        token_score_BC = scores.log_prob_NV.reshape(len(flat_BC), -1).gather(1, flat_BC)
        # Finished: candidates that end in EOS, if they are among the best W. They need not wait for the others: the
        # length penalty makes scores of different lengths comparable.
        ends_BC = token_BC == self.scorer.eos
        ended_score_BC = score_BC / divisor(length, self.settings)
        ended_score_BC = ended_score_BC.masked_fill(~ends_BC, float("-inf"))
        self._finish(ended_score_BC[:, :beam_size], parent_BC[:, :beam_size], token_score_BC[:, :beam_size])
        # Live: the best W candidates that do not end.
        self.live_score_BW, rank_BW = score_BC.masked_fill(ends_BC, float("-inf")).topk(beam_size, dim=1)
        parent_BW = parent_BC.gather(1, rank_BW)
        self.live = self.live.take(parent_BW).append(token_BC.gather(1, rank_BW), token_score_BC.gather(1, rank_BW))
        self._stop(length)
        first_row_B = torch.arange(0, parent_BW.numel(), beam_size, device=parent_BW.device)
        return (first_row_B[:, None] + parent_BW).flatten()

    def _finish(self, ended_score_BW: Tensor, parent_BW: Tensor, eos_score_BW: Tensor) -> None:
        """Keep the best W of the finished hypotheses and of those that end now."""
        beam_size = self.settings.beam_size
        score_BC = torch.cat([self.finished_score_BW, ended_score_BW], dim=1)
        rank_BW = score_BC.topk(beam_size, dim=1).indices
        # A sentence that is done keeps its order. Hypotheses that its limit cut off come last, whatever their score.
        place_W = torch.arange(beam_size, device=rank_BW.device)
        rank_BW = torch.where(self.done_B[:, None], place_W, rank_BW)
        self.finished_score_BW = score_BC.gather(1, rank_BW)
        # A hypothesis that ends now is its parent and EOS. Parents stand W places behind, among the live ones.
        place_BC = torch.cat([place_W.expand_as(parent_BW), parent_BW + beam_size], dim=1)
        eos_score_BC = torch.cat([torch.full_like(eos_score_BW, FILLER_SCORE), eos_score_BW], dim=1)
        self.finished = self.finished.join(self.live).take(place_BC.gather(1, rank_BW))
        eos_BW = torch.full_like(rank_BW, self.scorer.eos)
        self.finished = self.finished.append(eos_BW, eos_score_BC.gather(1, rank_BW))

    def _stop(self, length: int | Tensor) -> None:
        """Mark the sentences that are done by the rule of the settings. Their live hypotheses end."""
        if self.settings.stopping == "exact":
            # The best that a live hypothesis can reach: no further loss, and the largest penalty.
            bound_B = self.live_score_BW[:, 0] / self.max_penalty_B
            self._mark_done(self.finished_score_BW[:, self.settings.num_returned - 1] >= bound_B)
            return
        worst_B = self.finished_score_BW[:, -1]
        is_done_B = worst_B > float("-inf")
        if self.settings.stopping == "heuristic":
            is_done_B = is_done_B & (worst_B >= self.live_score_BW[:, 0] / divisor(length, self.settings))
        self._mark_done(is_done_B)

    def stop_at_limit(self, length: int | Tensor) -> None:
        """End the sentences that reach their limit with `length` tokens.

        Live hypotheses take the places that finished ones left empty.
        """
        at_limit_B = (self.max_length_B <= length) & ~self.done_B
        live_score_BW = self.live_score_BW / divisor(length, self.settings)
        live_score_BW = live_score_BW.masked_fill(~at_limit_B[:, None], float("-inf"))
        place_W = torch.arange(live_score_BW.shape[1], device=live_score_BW.device)
        num_finished_B1 = (self.finished_score_BW > float("-inf")).sum(dim=1, keepdim=True)
        rank_BW = torch.where(place_W < num_finished_B1, place_W, len(place_W) + place_W - num_finished_B1)
        self.finished_score_BW = torch.cat([self.finished_score_BW, live_score_BW], dim=1).gather(1, rank_BW)
        self.finished = self.finished.join(self.live).take(rank_BW)
        self._mark_done(at_limit_B)

    def _mark_done(self, done_B: Tensor) -> None:
        self.done_B = self.done_B | done_B
        self.live_score_BW = self.live_score_BW.masked_fill(self.done_B[:, None], float("-inf"))

    def collect(self, results: list[list[Hypothesis]]) -> None:
        """Write the hypotheses of the sentences that are done into `results`."""
        done_B = self.done_B.nonzero()[:, 0]
        best = self.finished.keep(done_B)
        rows = zip(
            self.sentence_B[done_B].tolist(),
            best.tokens_BXT[:, : self.settings.num_returned, 1:].tolist(),
            best.scores_BXT[:, : self.settings.num_returned, 1:].tolist(),
            self.finished_score_BW[done_B, : self.settings.num_returned].tolist(),
            strict=True,
        )
        for sentence, *hypotheses in rows:
            results[sentence] = [
                Hypothesis.create(tokens, token_scores, score, eos=self.scorer.eos)
                for tokens, token_scores, score in zip(*hypotheses, strict=True)
                if score > float("-inf")
            ]

    def results(self) -> list[list[Hypothesis]]:
        """The hypotheses of all sentences, which are done."""
        results: list[list[Hypothesis]] = [[] for _ in range(len(self.sentence_B))]
        self.collect(results)
        return results

    def keep(self, sentence_B: Tensor) -> Self:
        """The beams of these sentences."""
        return replace(
            self,
            sentence_B=self.sentence_B[sentence_B],
            max_length_B=self.max_length_B[sentence_B],
            max_penalty_B=self.max_penalty_B[sentence_B],
            done_B=self.done_B[sentence_B],
            live=self.live.keep(sentence_B),
            live_score_BW=self.live_score_BW[sentence_B],
            finished=self.finished.keep(sentence_B),
            finished_score_BW=self.finished_score_BW[sentence_B],
        )
