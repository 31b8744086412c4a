"""From texts to their candidates: tokenized, split if they are long, searched for, decoded and joined again."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace

from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding.engine import Engine, OnBatch
from lit_transformer.decoding.remarks import Remarks
from lit_transformer.decoding.translations import Translation, copied, decode, join_parts, split_ids
from lit_transformer.model.config import TransformerConfig
from lit_transformer.notes import print_note
from lit_transformer.progress import Advance
from lit_transformer.search_settings import SearchSettings

MAX_SOURCE_TOKENS = 1024
"""Longer texts are translated in parts, because the memory of attention grows with the square of the length."""
MAX_LINES = 2**32
"""More than any input has."""


def most_source_tokens(config: TransformerConfig) -> int:
    """The tokens of the longest source that a model translates at once, EOS included."""
    return MAX_SOURCE_TOKENS if config.longest is None else min(MAX_SOURCE_TOKENS, config.longest)


def stream_candidates(
    engine: Engine,
    vocabularies: Vocabularies,
    config: TransformerConfig,
    chunks: Iterable[Sequence[str]],
    settings: SearchSettings,
    *,
    first_line: int,
    advance: Advance,
) -> Generator[list[list[Translation]], None, None]:
    """Translate chunks of texts as they come (`Translator.stream`)."""
    remarks = Remarks(config, settings)
    try:
        for texts in chunks:
            yield find_candidates(
                engine,
                vocabularies,
                texts,
                settings,
                longest=most_source_tokens(config),
                first_line=first_line,
                remarks=remarks,
                advance=advance,
            )
            first_line += len(texts)
            remarks.print_if_due(len(texts))
    finally:
        remarks.print()


def find_candidates(
    engine: Engine,
    vocabularies: Vocabularies,
    texts: Sequence[str],
    settings: SearchSettings,
    *,
    longest: int,
    first_line: int,
    remarks: Remarks,
    advance: Advance,
) -> list[list[Translation]]:
    """Translate texts (`Translator.candidates`).

    Args:
        engine: Searches with the model.
        vocabularies: The model's vocabularies.
        texts: The texts.
        settings: How to search.
        longest: The tokens of the longest source that is translated at once (`most_source_tokens`).
        first_line: The line number of the first text.
        remarks: Gathers what a person should know about the lines.
        advance: Called with the number of texts that have just been translated. Parts of a text are fractions.

    Returns:
        The candidates of each text, best first.
    """
    source = vocabularies.source
    encoded = source.encode(texts)
    remarks.add_sources(texts, encoded, source, first_line=first_line)
    parts = [[part for part in split_ids(ids, longest) if source.has_known(part)] for ids in encoded]
    for number, text_parts in enumerate(parts, start=first_line):
        if len(text_parts) > 1:
            print_note(
                f"line {number} is too long to be translated at once: it is translated in {len(text_parts):,} parts"
            )
    all_parts = [part for text_parts in parts for part in text_parts]
    # Parts of the same line have different numbers, and no line has the number of another one.
    numbers = [
        number + place * MAX_LINES
        for number, text_parts in enumerate(parts, first_line)
        for place in range(len(text_parts))
    ]
    shares = [1 / len(text_parts) for text_parts in parts for _ in text_parts]
    advance(parts.count([]))
    found = iter(
        _different(
            engine,
            vocabularies,
            all_parts,
            settings,
            numbers,
            on_batch=lambda batch: advance(sum(shares[index] for index in batch)),
        )
    )
    candidates = [
        join_parts([next(found) for _ in text_parts], settings.num_returned)
        if text_parts
        else [Translation(copied(text), 0.0, finished=True)]
        for text, text_parts in zip(texts, parts, strict=True)
    ]
    for number, (text, (best, *_)) in enumerate(zip(texts, candidates, strict=True), start=first_line):
        remarks.add_translation(number, text, best.text, finished=best.finished)
    return candidates


def _different(
    engine: Engine,
    vocabularies: Vocabularies,
    sources: list[list[int]],
    settings: SearchSettings,
    numbers: list[int],
    *,
    on_batch: OnBatch,
) -> list[list[Translation]]:
    """The best translations of every source, with different texts."""
    target = vocabularies.target
    all_hypotheses = engine.search(sources, settings, numbers, on_batch=on_batch)
    found = [decode(hypotheses, target) for hypotheses in all_hypotheses]
    few = [index for index, best in enumerate(found) if len(best) < settings.num_returned < settings.num_rows]
    # Tokens can be split in several ways, and their text is the same. Here, the search goes on until all places of the
    # beam are certain. The best hypotheses stay the same.
    everything = replace(settings, n_best=settings.beam_size)
    searched = engine.search([sources[index] for index in few], everything)
    for index, hypotheses in zip(few, searched, strict=True):
        found[index] = decode(hypotheses, target)[: settings.num_returned]
    return found
