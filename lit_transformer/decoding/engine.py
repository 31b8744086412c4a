"""What searches for translations: token ids in, hypotheses out. Text, notes and candidates know no more than this."""

from collections.abc import Callable, Sequence
from typing import Protocol

from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.settings import SearchSettings

OnBatch = Callable[[list[int]], object]
"""Called after each batch with the numbers of its sentences."""


class Engine(Protocol):
    """A way to search with one model."""

    def search(
        self, sources: Sequence[list[int]], settings: SearchSettings, *, on_batch: OnBatch = lambda _: None
    ) -> list[list[Hypothesis]]:
        """Search for the translations of any number of sentences.

        Args:
            sources: Source ids with EOS.
            settings: How to search.
            on_batch: Called after each batch with the numbers of its sentences in `sources`.

        Returns:
            The best hypotheses of each sentence, best first, in the order of `sources`.

        Raises:
            UserError: If the memory does not suffice, or the model's scores are not finite.
        """
