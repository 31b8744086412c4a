"""The text that a vocabulary is learned from: an evenly spread part of a corpus, in lines that SentencePiece takes."""

import re
from collections.abc import Iterable, Iterator

LONGEST_LINE_BYTES = 4192
"""SentencePiece leaves out longer lines. The model records this limit, so a higher one would change its bytes."""
_MOST_BYTES_PER_CHARACTER = 4
_LONGEST_LINE = LONGEST_LINE_BYTES // _MOST_BYTES_PER_CHARACTER
_PARTS = re.compile(rf".{{1,{_LONGEST_LINE - 1}}}(?: |\Z)|.{{1,{_LONGEST_LINE}}}", re.DOTALL)


def evenly_spread(sentences: Iterable[str], max_sentences: int) -> list[str]:
    """Return every n-th sentence, where n is the smallest power of three that leaves at most `max_sentences`.

    SentencePiece's own sampling differs from run to run. In a stream where two languages alternate, an odd n keeps
    both.
    """
    kept: list[str] = []
    step = 1
    for index, sentence in enumerate(sentences):
        if index % step:
            continue
        if len(kept) == max_sentences:
            kept = kept[::3]
            step *= 3
            if index % step:
                continue
        kept.append(sentence)
    return kept


def short_lines(lines: Iterable[str]) -> Iterator[str]:
    """Yield lines, and the parts of those that are too long for SentencePiece.

    A long line is cut at spaces. SentencePiece counts pairs of tokens within words, so a cut at a space changes no
    count. Only a word that is too long itself is cut.
    """
    for line in lines:
        if len(line) <= _LONGEST_LINE or len(line.encode("utf-8", "replace")) <= LONGEST_LINE_BYTES:
            yield line
        else:
            yield from _PARTS.findall(line)
