"""Word alignments as sets of links, read from text and scored as in Och and Ney (2003). It knows no models.

A link is (source word, target word). Both are counted from 0. `split_words` defines words.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from lit_transformer.characters import split_words
from lit_transformer.errors import UserError
from lit_transformer.files import check_regular
from lit_transformer.notes import counted

Links = frozenset[tuple[int, int]]
_LINK = re.compile("([0-9]+)([-p])([0-9]+)")


class GoldLinks(NamedTuple):
    """The links that people made in one sentence pair."""

    sure: Links
    possible: Links
    """Links that are neither right nor wrong. They do not include the sure ones."""


@dataclass(frozen=True)
class LinkCounts:
    """Counts that the scores are computed from. The counts of a corpus are the sums over its sentence pairs.

    A are the predicted links, S the sure links, and P the sure and possible links.
    """

    predicted: int = 0
    """Links in A."""
    sure: int = 0
    """Links in S."""
    predicted_sure: int = 0
    """Links in both A and S."""
    predicted_possible: int = 0
    """Links in both A and P."""

    @classmethod
    def of(cls, predicted: Links, gold: GoldLinks) -> Self:
        """Return the counts of one sentence pair."""
        either = gold.sure | gold.possible
        return cls(len(predicted), len(gold.sure), len(predicted & gold.sure), len(predicted & either))

    def __add__(self, other: "LinkCounts") -> "LinkCounts":
        return LinkCounts(
            self.predicted + other.predicted,
            self.sure + other.sure,
            self.predicted_sure + other.predicted_sure,
            self.predicted_possible + other.predicted_possible,
        )

    def __str__(self) -> str:
        """The three scores in percent."""
        scores = {"AER": self.error_rate, "precision": self.precision, "recall": self.recall}
        return "  ".join(f"{name} {100 * score:.2f}" for name, score in scores.items())

    @property
    def precision(self) -> float:
        """Share of the predicted links that are sure or possible. 0 if nothing was predicted."""
        return self.predicted_possible / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the sure links that were predicted.

        Raises:
            UserError: There is no sure link.
        """
        return self.predicted_sure / self._num_sure()

    @property
    def error_rate(self) -> float:
        """Alignment error rate (AER), between 0 and 1. It is 0 if every sure link is predicted, and no link outside P.

        Raises:
            UserError: There is no sure link.
        """
        return 1 - (self.predicted_sure + self.predicted_possible) / (self.predicted + self._num_sure())

    def _num_sure(self) -> int:
        if not self.sure:
            raise UserError("the gold alignments have no sure link: give some to score against")
        return self.sure


def count_links(predicted: Sequence[Links], gold: Sequence[GoldLinks]) -> LinkCounts:
    """Return the counts of a corpus, where both arguments have one entry per sentence pair."""
    return sum((LinkCounts.of(*pair) for pair in zip(predicted, gold, strict=True)), LinkCounts())


def to_pharaoh(links: Links) -> str:
    """Return links in Pharaoh format: `i-j`, counted from 0, sorted."""
    return " ".join(f"{source}-{target}" for source, target in sorted(links))


def read_gold(path: str | Path, *, first_word: int = 0) -> list[GoldLinks]:
    """Read gold alignments with one line per sentence pair. `i-j` is a sure link and `ipj` a possible one.

    Args:
        path: A UTF-8 file. In each link, the source word comes first. A pair without links is an empty line.
        first_word: The number of the first word: 0 in Pharaoh format, 1 in NAACL format (`.talp`).

    Raises:
        UserError: The file cannot be read, or a line is not a list of links.
    """
    check_regular(Path(path))
    try:
        # As bytes, because only a line feed ends a line.
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
            raise UserError(
                f"{place}: {token!r} has a word {first_word - 1}, but first_word is {first_word}: correct one of them"
            )
        kinds[match[2]].add(link)
    return GoldLinks(frozenset(kinds["-"]), frozenset(kinds["p"] - kinds["-"]))


def check_gold(gold: Sequence[GoldLinks], sources: Sequence[str], targets: Sequence[str], path: str | Path) -> None:
    """Raise UserError unless the gold alignments, read from `path`, fit these sentences."""
    if len(gold) != len(sources):
        raise UserError(
            f"{path} has {counted(len(gold), 'line')} for {counted(len(sources), 'sentence pair')}: "
            "give one line per pair"
        )
    for number, (links, *texts) in enumerate(zip(gold, sources, targets, strict=True), start=1):
        sizes = tuple(len(split_words(text)) for text in texts)
        for link in sorted(links.sure | links.possible):
            if link[0] >= sizes[0] or link[1] >= sizes[1]:
                raise UserError(
                    f"{path}:{number}: a link joins words {link[0] + 1} and {link[1] + 1} of sentences of {sizes[0]} "
                    f"and {sizes[1]} words: check the text, the direction, and whether words are counted from 1"
                )
