"""Which words of two sentences belong together, read off the cross-attention of a model that translates.

Every target word is linked to the source word with the most weight. Its row can be taken at either of two moments, for
position t of the decoder reads one piece and says the next: where the model looks to *say* the word, or where it looks
once it has *read* it, one position later. In deep models the second can align better, in a lower layer (Garg et al.
2019; Chen et al. 2020, "Accurate Word Alignment Induction from Neural Machine Translation"); `count_by_head` tells.

Legend: H heads, T target length, S source length.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from lit_transformer.analysis.words import merge, text_spans
from lit_transformer.decoding.attention import Attention, Weights
from lit_transformer.decoding.translator import Translator
from lit_transformer.errors import UserError
from lit_transformer.evaluation.alignment_error import GoldLinks, LinkCounts, Links

When = Literal["said", "read"]
MOMENTS: tuple[When, ...] = get_args(When)
PAIRS_AT_A_TIME = 100
"""Enough to find sentences of like length; the maps of so many are in memory."""


class CrossHead(NamedTuple):
    """Where alignments are read off; layers and heads count from 0."""

    layer: int
    head: int | None
    """None: the mean of all heads."""
    when: When


class WordMaps(NamedTuple):
    """The cross-attention of one layer between the words of a sentence pair."""

    layer: int
    when: When
    weights_HTS: Weights
    """The last map is the mean of the others. `</s>` and its weight are left out."""


def word_maps(
    attention: Attention, when: When, source_words: Sequence[range], target_words: Sequence[range]
) -> list[WordMaps]:
    """The maps of every layer that `attention` has.

    Args:
        attention: Of the sentence pair.
        when: Whether the row of a target word is where it is said or where it is read.
        source_words: The pieces of every source word.
        target_words: The pieces of every target word, counted in the target without BOS.
    """
    # Position t says piece t and reads piece t - 1.
    later = MOMENTS.index(when)
    rows = [range(span.start + later, span.stop + later) for span in target_words]
    return [
        WordMaps(layer, when, merge(np.concatenate([weights, weights.mean(0, keepdims=True)]), rows, source_words))
        for layer, weights in attention.cross.items()
    ]


def links(weights_TS: Weights) -> Links:
    """The source word with the most weight for each target word; none for a word without pieces.

    There is no threshold, and `</s>` is no way to stay without a link: neither made fewer errors on the demo corpus.
    """
    if weights_TS.shape[1] == 0:
        return frozenset()
    best_T = weights_TS.argmax(axis=1)
    return frozenset((int(source), target) for target, source in enumerate(best_T) if weights_TS[target, source] > 0.0)


def align(
    translator: Translator,
    sources: Sequence[str],
    targets: Sequence[str],
    at: CrossHead,
) -> Iterator[Links]:
    """The links of every sentence pair, in order; words are what `str.split` gives, counted from 0.

    Args:
        translator: A model of this translation direction.
        sources: One sentence each.
        targets: Their translations.
        at: The layer and head to look at.
    """
    num_heads = translator.transformer.config.num_heads
    if at.head is not None and not 0 <= at.head < num_heads:
        raise UserError(f"head {at.head} does not exist: the model has heads 0 to {num_heads - 1}")
    for maps in _all_word_maps(translator, sources, targets, [at.layer], [at.when]):
        yield links(maps[0].weights_HTS[-1 if at.head is None else at.head])


def count_by_head(
    translator: Translator,
    sources: Sequence[str],
    targets: Sequence[str],
    gold: Sequence[GoldLinks],
    *,
    layers: Collection[int] | None = None,
    moments: Sequence[When] = MOMENTS,
) -> dict[CrossHead, LinkCounts]:
    """How well each head, and each layer's mean of heads, aligns a corpus with gold links.

    Args:
        translator: As for `align`.
        sources: As for `align`.
        targets: As for `align`.
        gold: The right links of every pair.
        layers: The layers to try, from 0; all when left out.
        moments: Whether to look where words are said, where they are read, or both.
    """
    counts: dict[CrossHead, LinkCounts] = {}
    all_maps = _all_word_maps(translator, sources, targets, layers, moments)
    for maps, gold_links in zip(all_maps, gold, strict=True):
        for layer, when, weights_HTS in maps:
            heads: list[int | None] = [*range(len(weights_HTS) - 1), None]
            for head, weights_TS in zip(heads, weights_HTS, strict=True):
                at = CrossHead(layer, head, when)
                counts[at] = counts.get(at, LinkCounts()) + LinkCounts.of(links(weights_TS), gold_links)
    return counts


def best_head(counts: Mapping[CrossHead, LinkCounts]) -> CrossHead:
    """Where the alignment error rate is lowest."""
    return min(counts, key=lambda at: counts[at].error_rate)


def _all_word_maps(
    translator: Translator,
    sources: Sequence[str],
    targets: Sequence[str],
    layers: Collection[int] | None,
    moments: Sequence[When],
) -> Iterator[list[WordMaps]]:
    """The word maps of every sentence pair, one list a pair."""
    # SentencePiece and Python differ in what is white space.
    source_texts, target_texts = ([" ".join(text.split()) for text in texts] for texts in (sources, targets))
    for first in range(0, len(source_texts), PAIRS_AT_A_TIME):
        pairs = slice(first, first + PAIRS_AT_A_TIME)
        attentions = translator.attentions(
            source_texts[pairs], target_texts[pairs], layers=layers, first_line=first + 1
        )
        for attention, source, target in zip(attentions, source_texts[pairs], target_texts[pairs], strict=True):
            words = (
                text_spans(source, attention.source[:-1], translator.tokenizer),
                text_spans(target, attention.target_output[:-1], translator.tokenizer),
            )
            yield [maps for when in moments for maps in word_maps(attention, when, *words)]
