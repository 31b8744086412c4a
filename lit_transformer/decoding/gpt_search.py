"""Token ids in, hypotheses out: search and sampling with a GPT, for any number of prompts.

Legend: B batch, L query length.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from lit_transformer.decoding.devices import enough_memory, inference
from lit_transformer.decoding.engine import checked
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.sampling import sample
from lit_transformer.decoding.scoring import SpecialIds
from lit_transformer.decoding.search import beam_search
from lit_transformer.model.gpt import GPT
from lit_transformer.notes import counted
from lit_transformer.search_settings import SearchSettings

NO_TOKEN = -1
"""Stands for the id of a token that a model does not have. Without EOS, no continuation ends before its limit."""


def most_new_tokens(length: int, max_new_tokens: int, longest: int | None) -> int:
    """The most tokens that can follow `length` ones. The last one of all is never read, so it needs no position."""
    return max_new_tokens if longest is None else min(max_new_tokens, longest - length + 1)


@dataclass(frozen=True)
class GPTSearch:
    """Continues prompts, in batches of the same length. So what is found for a prompt does not depend on others.

    Args:
        gpt: The model. Dropout is off during the search.
        ids: Its special ids. `bos` is not used, because a prompt has at least one token.
        batch_tokens: The most tokens of all rows of a batch. A batch has at least one prompt.
    """

    gpt: GPT
    ids: SpecialIds
    batch_tokens: int

    def search(
        self, prompts: Sequence[list[int]], settings: SearchSettings, numbers: Sequence[int], *, max_new_tokens: int
    ) -> list[list[Hypothesis]]:
        """Find or draw continuations.

        Args:
            prompts: Token ids, at least one for each prompt and at most as many as the model has positions.
            settings: How to search or to sample. Its limits of length do not count, except for `min_length`.
            numbers: The number of each prompt, which its samples depend on.
            max_new_tokens: The greatest length of a continuation, EOS included.

        Returns:
            The hypotheses of each prompt, without its tokens.

        Raises:
            UserError: If the memory does not suffice, or the model's scores are not numbers.
        """
        found: list[list[Hypothesis]] = [[] for _ in prompts]
        min_length = 0 if self.ids.eos == NO_TOKEN else settings.min_length
        settings = replace(settings, min_length=min_length, max_length=None)
        for batch in self._batches([len(ids) for ids in prompts], settings.num_rows, max_new_tokens):
            texts = f"{counted(len(batch), 'prompt')} with {settings.num_rows} continuations each"
            with inference(self.gpt), enough_memory(f"lower batch_tokens, the beam or the samples: there were {texts}"):
                hypotheses = self._search_batch(
                    [prompts[index] for index in batch], settings, [numbers[index] for index in batch], max_new_tokens
                )
            for index, candidates in zip(batch, checked(hypotheses), strict=True):
                found[index] = candidates
        return found

    def _batches(self, lengths: Sequence[int], num_rows: int, max_new_tokens: int) -> Iterator[list[int]]:
        """Indices of prompts of the same length."""
        by_length: dict[int, list[int]] = {}
        for index, length in enumerate(lengths):
            by_length.setdefault(length, []).append(index)
        for length, indices in by_length.items():
            size = max(1, self.batch_tokens // (num_rows * (length + max_new_tokens)))
            for first in range(0, len(indices), size):
                yield indices[first : first + size]

    def _search_batch(
        self, prompts: list[list[int]], settings: SearchSettings, numbers: list[int], max_new_tokens: int
    ) -> list[list[Hypothesis]]:
        """All tokens of the prompts but the last ones are read in one forward pass."""
        gpt, device = self.gpt, self.gpt.embedding.weight.device
        token_BL = torch.tensor(prompts, device=device)
        state = gpt.start(beam_size=settings.num_rows)
        if token_BL.shape[1] > 1:
            _, state = gpt.read(token_BL[:, :-1], state)
            state = state.reorder(torch.arange(len(prompts), device=device).repeat_interleave(settings.num_rows))
        search = beam_search
        if settings.sampling is not None:
            search = partial(sample, number_B=torch.tensor(numbers, device=device))
        limit = most_new_tokens(token_BL.shape[1], max_new_tokens, gpt.config.longest)
        return search(
            gpt.step,
            state,
            settings=settings,
            max_length_B=torch.full((len(prompts),), limit, device=device),
            ids=self.ids,
            prefix=token_BL[:, -1:].tolist(),
        )
