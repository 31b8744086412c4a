"""Sentence pairs for word alignment, and their gold links."""

from pathlib import Path
from typing import NamedTuple

from lit_transformer.analysis.scripts import unsplit_script
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.data.text_folder import pair_batches
from lit_transformer.errors import UserError
from lit_transformer.evaluation.alignment_error import GoldLinks, check_gold, read_gold
from lit_transformer.notes import print_note


class AlignedText(NamedTuple):
    """The sentences of both sides, and the gold links of each pair if they are known."""

    sources: list[str]
    targets: list[str]
    gold: list[GoldLinks] | None


def demo_text(split: str, *, source: str, target: str) -> AlignedText:
    """The demo corpus, whose grammar knows the gold links.

    Raises:
        UserError: If there is no such split, or the languages are not English and German.
    """
    if {source, target} != {"en", "de"}:
        raise UserError(f"the demo corpus is English-German, but the checkpoint translates {source} to {target}")
    pairs = demo_pairs(split)
    english, german = [pair.english for pair in pairs], [pair.german for pair in pairs]
    if source == "en":
        return AlignedText(english, german, [GoldLinks(frozenset(pair.alignment), frozenset()) for pair in pairs])
    backwards = [frozenset((j, i) for i, j in pair.alignment) for pair in pairs]
    return AlignedText(german, english, [GoldLinks(links, frozenset()) for links in backwards])


def read_aligned_text(source: Path, target: Path, gold: Path | None, *, first_word: int) -> AlignedText:
    """Two text files, and a file of gold links if there is one.

    Args:
        source: File of sentences, one per line, plain or compressed.
        target: File of their translations.
        gold: File of gold links, one line per pair.
        first_word: The number of the first word in `gold`, 0 or 1.

    Raises:
        UserError: If a file cannot be read, or the files do not fit together.
    """
    batches = list(pair_batches(source, target))
    sources, targets = ([text for batch in batches for text in batch[side].to_pylist()] for side in range(2))
    for path, sentences in ((source, sources), (target, targets)):
        if script := unsplit_script(sentences):
            print_note(
                f"{path} has no spaces between its {script} words, so a whole phrase counts as one word: split the "
                "text into words first"
            )
    if gold is None:
        return AlignedText(sources, targets, None)
    links = read_gold(gold, first_word=first_word)
    check_gold(links, sources, targets, gold)
    return AlignedText(sources, targets, links)
