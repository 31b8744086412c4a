"""Word alignments from the cross-attention of a translation model.

Every target word is linked to the source word with the most weight. There are two rows to take the weights from,
because position t of the decoder reads token t - 1 and predicts token t:

- *said*: the row at which the model predicts the word.
- *read*: the row at which the model reads the word, one position later.

In deep models *read* can align better, in a lower layer (Garg et al. 2019; Chen et al. 2020, "Accurate Word Alignment
Induction from Neural Machine Translation"). `count_by_head` shows which is better for a model.

Legend: H heads, T target length, S source length.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from lit_transformer.analysis.words import merge, text_spans
from lit_transformer.characters import split_words
from lit_transformer.decoding.attention import Attention, Weights
from lit_transformer.decoding.translator import Translator
from lit_transformer.errors import UserError
from lit_transformer.evaluation.alignment_error import GoldLinks, LinkCounts, Links
from lit_transformer.progress import progress

When = Literal["said", "read"]
MOMENTS: tuple[When, ...] = get_args(When)
PAIRS_AT_A_TIME = 100
"""Enough to find sentences of similar length. The maps of this many pairs are in memory."""


class CrossHead(NamedTuple):
    """The row of a cross-attention map that an alignment is taken from. Layers and heads count from 0."""

    layer: int
    head: int | None
    """None is the mean of all heads."""
    when: When


class WordMaps(NamedTuple):
    """The cross-attention of one layer between the words of a sentence pair."""

    layer: int
    when: When
    weights_HTS: Weights
    """One map per head, then their mean. `</s>` and its weight are left out."""


def word_maps(
    attention: Attention, when: When, source_words: Sequence[range], target_words: Sequence[range]
) -> list[WordMaps]:
    """The maps of every layer that `attention` has.

    Args:
        attention: The weights of the sentence pair.
        when: Whether a target word has the row at which it is said or at which it is read.
        source_words: The tokens of every source word.
        target_words: The tokens of every target word, counted in the target without BOS.

    Returns:
        One `WordMaps` per layer.
    """
    # Position t predicts token t and reads token t - 1.
    later = MOMENTS.index(when)
    rows = [range(span.start + later, span.stop + later) for span in target_words]
    return [
        WordMaps(layer, when, merge(np.concatenate([weights, weights.mean(0, keepdims=True)]), rows, source_words))
        for layer, weights in attention.cross.items()
    ]


def links(weights_TS: Weights) -> Links:
    """Link each target word to the source word with the most weight. A word without tokens has no link.

    There is no threshold, and no word is linked to `</s>`: neither lowered the error rate on the demo corpus.
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
    """Align the words of sentence pairs.

    Args:
        translator: A model of this translation direction.
        sources: One sentence each.
        targets: Their translations.
        at: The layer, head and row to take the weights from.

    Yields:
        The links of every sentence pair, in order. Words are those of `split_words`, counted from 0.

    Raises:
        UserError: If there is no such layer or head, or the vocabulary does not follow the words.
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
    """Count how well each head, and the mean of each layer's heads, aligns a corpus with gold links.

    Args:
        translator: As for `align`.
        sources: As for `align`.
        targets: As for `align`.
        gold: The right links of every pair.
        layers: The layers to try, counted from 0. By default all.
        moments: The rows to try: those at which words are said, at which they are read, or both.

    Returns:
        The counts that the error rate is computed from, for each head.
    """
    counts: dict[CrossHead, LinkCounts] = {}
    all_maps = _all_word_maps(translator, sources, targets, layers, moments)
    with progress("comparing heads", len(sources), "pair") as advance:
        for maps, gold_links in zip(all_maps, gold, strict=True):
            for layer, when, weights_HTS in maps:
                heads: list[int | None] = [*range(len(weights_HTS) - 1), None]
                for head, weights_TS in zip(heads, weights_HTS, strict=True):
                    at = CrossHead(layer, head, when)
                    counts[at] = counts.get(at, LinkCounts()) + LinkCounts.of(links(weights_TS), gold_links)
            advance(1)
    return counts


def best_head(counts: Mapping[CrossHead, LinkCounts]) -> CrossHead:
    """The head with the lowest alignment error rate."""
    return min(counts, key=lambda at: counts[at].error_rate)


def error_table(counts: Mapping[CrossHead, LinkCounts]) -> str:
    """The alignment error rates in percent as text, one line per layer and one column per head."""
    columns = list(dict.fromkeys("mean" if at.head is None else str(at.head + 1) for at in counts))
    lines = []
    for when in dict.fromkeys(at.when for at in counts):
        lines.append(f"AER by layer (lines) and head (columns), with target words linked where they are {when}")
        lines.append("layer " + "".join(f"{name:>7}" for name in columns))
        for layer in dict.fromkeys(at.layer for at in counts):
            rates = [found.error_rate for at, found in counts.items() if at.layer == layer and at.when == when]
            lines.append(f"{layer + 1:5} " + "".join(f"{100 * rate:7.2f}" for rate in rates))
    return "\n".join(lines)


def _all_word_maps(
    translator: Translator,
    sources: Sequence[str],
    targets: Sequence[str],
    layers: Collection[int] | None,
    moments: Sequence[When],
) -> Iterator[list[WordMaps]]:
    """The word maps of every sentence pair, one list per pair."""
    # A tab between words is a space to the vocabulary.
    source_texts, target_texts = ([" ".join(split_words(text)) for text in texts] for texts in (sources, targets))
    for first in range(0, len(source_texts), PAIRS_AT_A_TIME):
        pairs = slice(first, first + PAIRS_AT_A_TIME)
        attentions = translator.attentions(
            source_texts[pairs], target_texts[pairs], layers=layers, first_line=first + 1
        )
        for attention, source, target in zip(attentions, source_texts[pairs], target_texts[pairs], strict=True):
            words = (
                text_spans(source, attention.source[:-1], translator.vocabularies.source),
                text_spans(target, attention.target_output[:-1], translator.vocabularies.target),
            )
            yield [maps for when in moments for maps in word_maps(attention, when, *words)]
