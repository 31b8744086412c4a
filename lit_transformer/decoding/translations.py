"""The translations of a text: with different texts, and joined from those of its parts."""

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from lit_transformer.batch import EOS_ID
from lit_transformer.characters import has_content, valid
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.hypotheses import Hypothesis


class Translation(NamedTuple):
    """One translation of a text, on one line."""

    text: str
    score: float
    """Log-probability over length penalty. For a text that is translated in parts, the sum of their scores."""
    finished: bool
    """Whether the model ended it. If not, it was cut at the length limit."""


def copied(text: str) -> str:
    """What stands for the translation of a text without known tokens: the text on one line, or nothing if it is empty.

    A model would invent a sentence, because such texts all look the same to it.
    """
    return " ".join(valid(text).splitlines()) if has_content(text) else ""


def split_ids(ids: list[int], longest: int) -> Iterator[list[int]]:
    """Cut a text into parts of at most `longest` tokens, EOS included. A text without tokens has no parts."""
    size = longest - 1
    for begin in range(0, len(ids), size):
        yield [*ids[begin : begin + size], EOS_ID]


def decode(hypotheses: Sequence[Hypothesis], tokenizer: Tokenizer) -> list[Translation]:
    """The translations that hypotheses stand for, in the same order, with different texts."""
    texts = tokenizer.decode([hypothesis.tokens for hypothesis in hypotheses])
    return _merge_by_text(
        # A vocabulary can hold characters that end a line.
        Translation(" ".join(text.splitlines()), hypothesis.score, hypothesis.finished)
        for text, hypothesis in zip(texts, hypotheses, strict=True)
    )


def _merge_by_text(translations: Iterable[Translation]) -> list[Translation]:
    """The first translation of each text."""
    first: dict[str, Translation] = {}
    for translation in translations:
        first.setdefault(translation.text, translation)
    return list(first.values())


def join_parts(parts: list[list[Translation]], n_best: int) -> list[Translation]:
    """The candidates of a text: the best combinations of the candidates of its parts. There is at least one part."""
    joined, *rest = parts
    for part in rest:
        pairs = heapq.nsmallest(n_best, itertools.product(joined, part), key=_badness)
        joined = _merge_by_text(
            Translation(f"{begin.text} {end.text}", begin.score + end.score, begin.finished and end.finished)
            for begin, end in pairs
        )
    return joined


def _badness(pair: tuple[Translation, Translation]) -> tuple[bool, float]:
    """The order of combinations: finished ones first, then the best score first."""
    begin, end = pair
    return not (begin.finished and end.finished), -(begin.score + end.score)
