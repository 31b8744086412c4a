"""Word alignments as sets of links, read from text and scored as in Och and Ney (2003). It knows no models.

A link is (source word, target word), both counted from 0, words being what spaces separate.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from lit_transformer.errors import UserError
from lit_transformer.files import check_regular

Links = frozenset[tuple[int, int]]
_LINK = re.compile("([0-9]+)([-p])([0-9]+)")


class GoldLinks(NamedTuple):
    """What people linked in one sentence pair: sure links, and those that are neither right nor wrong."""

    sure: Links
    possible: Links
    """Without the sure ones."""


@dataclass(frozen=True)
class LinkCounts:
    """What the scores are made of; counts of several sentence pairs add up to those of a corpus.

    With A the predicted links, S the sure ones and P the sure and the possible ones.
    """

    predicted: int = 0
    """|A|"""
    sure: int = 0
    """|S|"""
    predicted_sure: int = 0
    """|A and S|"""
    predicted_possible: int = 0
    """|A and P|"""

    @classmethod
    def of(cls, predicted: Links, gold: GoldLinks) -> Self:
        """The counts of one sentence pair."""
        either = gold.sure | gold.possible
        return cls(len(predicted), len(gold.sure), len(predicted & gold.sure), len(predicted & either))

    def __add__(self, other: "LinkCounts") -> "LinkCounts":
        return LinkCounts(
            self.predicted + other.predicted,
            self.sure + other.sure,
            self.predicted_sure + other.predicted_sure,
            self.predicted_possible + other.predicted_possible,
        )

    @property
    def precision(self) -> float:
        """Share of the predicted links that are sure or possible; 0 where nothing was predicted."""
        return self.predicted_possible / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the sure links that were predicted."""
        return self.predicted_sure / self._num_sure()

    @property
    def error_rate(self) -> float:
        """Alignment error rate (AER), between 0 and 1: 0 needs all sure links and none that is not possible."""
        return 1 - (self.predicted_sure + self.predicted_possible) / (self.predicted + self._num_sure())

    def _num_sure(self) -> int:
        if not self.sure:
            raise UserError("the gold alignments have no sure link: there is nothing to score against")
        return self.sure


def count_links(predicted: Sequence[Links], gold: Sequence[GoldLinks]) -> LinkCounts:
    """The counts of a corpus."""
    if len(predicted) != len(gold):
        raise UserError(f"{len(predicted)} alignments cannot be scored against {len(gold)}: give one a sentence pair")
    return sum(map(LinkCounts.of, predicted, gold), LinkCounts())


def to_pharaoh(links: Links) -> str:
    """Links as text: `i-j`, counted from 0, ordered."""
    return " ".join(f"{source}-{target}" for source, target in sorted(links))


def read_gold(path: str | Path, *, first_word: int = 0) -> list[GoldLinks]:
    """Gold alignments, one line a sentence pair: `i-j` is a sure link and `ipj` a possible one, the source first.

    Args:
        path: A UTF-8 file; an empty line is a pair without links.
        first_word: The number that the file gives to the first word: 0 in Pharaoh's format, 1 in NAACL's (`.talp`).
    """
    check_regular(Path(path))
    try:
        # As bytes: line ends are line feeds and nothing else.
        lines = Path(path).read_bytes().removesuffix(b"\n").split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return [_links(line, first_word, f"{path}:{number}") for number, line in enumerate(lines, start=1)]


def _links(line: bytes, first_word: int, place: str) -> GoldLinks:
    kinds: dict[str, set[tuple[int, int]]] = {"-": set(), "p": set()}
    for token in line.decode("utf-8", "replace").split():
        match = _LINK.fullmatch(token)
        if match is None:
            raise UserError(f"{place}: {token!r} is not a link: write i-j (sure) or ipj (possible), as in 0-0 1p2")
        link = int(match[1]) - first_word, int(match[3]) - first_word
        if min(link) < 0:
            raise UserError(f"{place}: {token!r} has a word {first_word - 1}, but here words count from {first_word}")
        kinds[match[2]].add(link)
    return GoldLinks(frozenset(kinds["-"]), frozenset(kinds["p"] - kinds["-"]))


def check_links(gold: Sequence[GoldLinks], sources: Sequence[str], targets: Sequence[str], path: str | Path) -> None:
    """Raises where gold alignments read from `path` are not of these sentences."""
    if len(gold) != len(sources):
        raise UserError(f"{path} has {len(gold):,} lines for {len(sources):,} sentence pairs: give one line a pair")
    for number, (links, *texts) in enumerate(zip(gold, sources, targets, strict=True), start=1):
        sizes = tuple(len(text.split()) for text in texts)
        for link in sorted(links.sure | links.possible):
            if link[0] >= sizes[0] or link[1] >= sizes[1]:
                raise UserError(
                    f"{path}:{number}: a link joins words {link[0] + 1} and {link[1] + 1} of sentences of "
                    f"{sizes[0]} and {sizes[1]} words: is it another text, or the other way round, or counted from 1?"
                )
