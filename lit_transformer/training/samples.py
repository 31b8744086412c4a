"""Sentences of batches and their translations: those that are scored, and the few that are shown.

Legend: B batch, S source length.
"""

from collections.abc import Iterable
from typing import NamedTuple

from lit_transformer.batch import Batch, TextBatch
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding.transformer_search import search_batch
from lit_transformer.decoding.translations import copied
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings

NUM_SAMPLES = 4


class Sample(NamedTuple):
    """A validation sentence and its translation. Samples sort in the order of the validation set."""

    row: int
    """Position of the sentence in the validation set."""
    source: str
    translation: str
    reference: str


def first_samples(samples: Iterable[Sample]) -> list[Sample]:
    """The samples to show: the first of the validation set, whichever batches and ranks they were in."""
    return sorted(samples)[:NUM_SAMPLES]


def with_sources(batch: Batch, vocabularies: Vocabularies) -> TextBatch:
    """Return a batch with the sources that its ids stand for, and without references."""
    sources = vocabularies.source.decode(batch.source_BS.tolist())
    return TextBatch(batch, tuple(range(len(sources))), tuple(sources), ())


def translate_batch(
    transformer: Transformer, vocabularies: Vocabularies, batch: TextBatch, settings: SearchSettings
) -> list[str]:
    """Return the translation of each sentence. A sentence without known characters gives itself."""
    source_BS = batch.batch.source_BS[: len(batch.sources)]
    hypotheses = search_batch(transformer, source_BS, settings) if batch.sources else []
    translations = vocabularies.target.decode([best[0].tokens if best else [] for best in hypotheses])
    return [
        translation if vocabularies.source.has_known(ids) else copied(source)
        for translation, ids, source in zip(translations, source_BS.tolist(), batch.sources, strict=True)
    ]
