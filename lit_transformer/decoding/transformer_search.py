"""Token ids in, hypotheses out: search with a Transformer, for one padded batch or for any number of sentences.

Legend: B batch, S source length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lit_transformer.batch import BOS_ID, EOS_ID, NEVER_PREDICTED, PAD_ID, UNK_ID, pad
from lit_transformer.data.batching import batches_by_length
from lit_transformer.decoding.devices import enough_memory, inference, memory_remedy
from lit_transformer.decoding.engine import FoundBatches, OnBatch, checked, gathered
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.sampling import sample
from lit_transformer.decoding.scoring import SpecialIds
from lit_transformer.decoding.search import beam_search
from lit_transformer.errors import UserError
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings

SPECIAL_IDS = SpecialIds(bos=BOS_ID, eos=EOS_ID, banned=NEVER_PREDICTED, unk=UNK_ID)


def search_batch(
    transformer: Transformer, source_BS: Tensor, settings: SearchSettings, number_B: Tensor | None = None
) -> list[list[Hypothesis]]:
    """Search for the translations of a padded batch, or draw them.

    Args:
        transformer: The model, in evaluation mode.
        source_BS: Source ids with EOS, then padding.
        settings: How to search.
        number_B: As for `sample`.

    Returns:
        The best hypotheses of each sentence, best first, or the samples.

    Raises:
        UserError: If the model has no position for the EOS of a hypothesis of `settings.min_length` tokens.
    """
    search = beam_search if settings.sampling is None else partial(sample, number_B=number_B)
    return search(
        transformer.step,
        transformer.start(transformer.encode(source_BS), beam_size=settings.num_rows),
        settings=settings,
        max_length_B=limits((source_BS != PAD_ID).sum(dim=1), settings, longest=transformer.config.longest),
        ids=SPECIAL_IDS,
    )


def limits(length_B: Tensor, settings: SearchSettings, *, longest: int | None) -> Tensor:
    """The greatest length of each sentence's hypotheses, EOS included, B.

    Args:
        length_B: The length of each source, EOS included.
        settings: How to search.
        longest: The positions that the model has. None if there is no limit.

    Raises:
        UserError: If the model has no position for the EOS of a hypothesis of `settings.min_length` tokens.
    """
    max_length_B = settings.limit(length_B)
    if longest is None:
        return max_length_B
    if settings.min_length >= longest:
        raise UserError(f"min_length is {settings.min_length}: it must be less than the model's positions, {longest}")
    return max_length_B.clamp(max=longest)


@dataclass(frozen=True)
class TransformerSearch:
    """The plain engine: this process searches with the model, in batches of similar length.

    Args:
        transformer: The model. Dropout is off during the search.
        batch_tokens: Padded source tokens per batch. It changes speed and memory, not the hypotheses.
        num_processes: How many processes share the memory. If there are several, remedies for a lack of it name them.
    """

    transformer: Transformer
    batch_tokens: int
    num_processes: int = 1

    def search(
        self,
        sources: Sequence[list[int]],
        settings: SearchSettings,
        numbers: Sequence[int] | None = None,
        *,
        on_batch: OnBatch = lambda _: None,
    ) -> list[list[Hypothesis]]:
        """See `Engine.search`."""
        numbers = range(len(sources)) if numbers is None else numbers
        return gathered(len(sources), self._search(sources, settings, numbers), on_batch)

    def _search(self, sources: Sequence[list[int]], settings: SearchSettings, numbers: Sequence[int]) -> FoundBatches:
        transformer = self.transformer
        device = transformer.embedding.weight.device
        lower = f"{'beam_size' if settings.sampling is None else 'n_best'} {settings.num_rows}"
        if self.num_processes > 1:
            lower = f"workers {self.num_processes}, {lower}"
        for batch in batches_by_length([len(ids) for ids in sources], self.batch_tokens):
            source_BS = torch.from_numpy(pad([sources[index] for index in batch])).to(device)
            with inference(transformer), enough_memory(memory_remedy(source_BS, lower=lower)):
                number_B = torch.tensor([numbers[index] for index in batch], device=device)
                hypotheses = search_batch(transformer, source_BS, settings, number_B)
            yield batch, checked(hypotheses)
