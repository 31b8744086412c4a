"""What searches for translations: token ids in, hypotheses out. Text, notes and candidates know no more than this."""

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Protocol

from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.errors import UserError
from lit_transformer.search_settings import SearchSettings

OnBatch = Callable[[list[int]], object]
"""Called after each batch with the numbers of its sentences."""
FoundBatches = Generator[tuple[list[int], list[list[Hypothesis]]], None, None]
"""The numbers of the sentences of each batch, and what was found for them."""


class Engine(Protocol):
    """A way to search with one model."""

    def search(
        self,
        sources: Sequence[list[int]],
        settings: SearchSettings,
        numbers: Sequence[int] | None = None,
        *,
        on_batch: OnBatch = lambda _: None,
    ) -> list[list[Hypothesis]]:
        """Search for the translations of any number of sentences.

        Args:
            sources: Source ids with EOS.
            settings: How to search.
            numbers: The number of each sentence, which its samples depend on. By default, they count from 0.
            on_batch: Called after each batch with the numbers of its sentences in `sources`.

        Returns:
            The best hypotheses of each sentence, best first, or its samples, in the order of `sources`.

        Raises:
            UserError: If the memory does not suffice, the model's scores are not finite, or the engine lacks what the
                settings ask for.
        """


def gathered(num_sources: int, batches: FoundBatches, on_batch: OnBatch) -> list[list[Hypothesis]]:
    """What an engine has found, in the order of its sources.

    Args:
        num_sources: The number of sources.
        batches: All of them in any order. An error here closes it.
        on_batch: As for `Engine.search`.
    """
    found: list[list[Hypothesis]] = [[] for _ in range(num_sources)]
    with closing(batches):
        for batch, hypotheses in batches:
            for index, candidates in zip(batch, hypotheses, strict=True):
                found[index] = candidates
            on_batch(batch)
    return found


def checked(hypotheses: list[list[Hypothesis]]) -> list[list[Hypothesis]]:
    """The hypotheses of a batch.

    Raises:
        UserError: If a sentence has no hypothesis, or one whose score is not a number.
    """
    for candidates in hypotheses:
        if not candidates or any(math.isnan(candidate.score) for candidate in candidates):
            raise UserError("the model's scores are not numbers: its training diverged; take an earlier checkpoint")
    return hypotheses


def refuse_sampling(settings: SearchSettings, engine: str) -> None:
    """Raise UserError if an engine that cannot sample is to sample."""
    if settings.sampling is not None:
        raise UserError(f"engine {engine} cannot sample: take engine torch")
