"""The splits of the demo corpus.

The corpus is fixed: every call gives the same pairs, on every platform. No sentence occurs twice, within a split or
across splits, and an English sentence has one German translation.

`valid` and `test` are drawn like `train`. `unseen` tests new combinations of known words: a tenth of all pairs of an
adjective and its noun, or of a verb and its object, is held out. None of these occurs in the other splits, and every
sentence of `unseen` has at least one.
"""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple
from zlib import crc32

from lit_transformer.data.demo.english import english_words
from lit_transformer.data.demo.german import german_words
from lit_transformer.data.demo.grammar import Sentence, align_words, combinations, write_sentence
from lit_transformer.data.demo.sampler import Sampler
from lit_transformer.errors import UserError

DEMO_SPLITS = ("train", "valid", "test", "unseen")
DEFAULT_TRAIN_PAIRS = 30_000
MAX_TRAIN_PAIRS = 1_000_000

_NUM_PAIRS = {"train": DEFAULT_TRAIN_PAIRS, "valid": 500, "test": 1000, "unseen": 500}
_SEEDS = {"train": 1, "valid": 2, "test": 3, "unseen": 4}
_MAX_WORDS = 18


class DemoPair(NamedTuple):
    """A sentence pair and its gold alignment.

    Args:
        english: The sentence.
        german: Its translation.
        alignment: Pairs of word indices, English first, counted from 0. Words are separated by spaces.
    """

    english: str
    german: str
    alignment: tuple[tuple[int, int], ...]


def demo_pairs(split: str, *, num_pairs: int | None = None) -> list[DemoPair]:
    """Return the sentence pairs of a split.

    Args:
        split: One of `DEMO_SPLITS`.
        num_pairs: Size of `train`, by default `DEFAULT_TRAIN_PAIRS`. A smaller corpus is a prefix of a larger one.

    Raises:
        UserError: There is no such split or size.
    """
    if split not in DEMO_SPLITS:
        raise UserError(f"the demo corpus has no split {split!r}: it has {', '.join(DEMO_SPLITS)}")
    if num_pairs is None:
        num_pairs = _NUM_PAIRS[split]
    elif split != "train":
        raise UserError(f"num_pairs is {num_pairs}, but {split} always has {_NUM_PAIRS[split]} pairs: leave it out")
    elif not 1 <= num_pairs <= MAX_TRAIN_PAIRS:
        raise UserError(f"num_pairs is {num_pairs}: it must be from 1 to {MAX_TRAIN_PAIRS}")
    return list(islice(_distinct_pairs(split), num_pairs))


def is_held_out(combination: str) -> bool:
    """Whether a combination, as `combinations` writes it, occurs only in `unseen`."""
    return crc32(combination.encode()) % 10 == 0


def translate(sentence: Sentence) -> DemoPair:
    """Write a sentence in both languages."""
    english, english_keys = write_sentence(english_words(sentence))
    german, german_keys = write_sentence(german_words(sentence))
    return DemoPair(english, german, align_words(english_keys, german_keys))


def _distinct_pairs(split: str) -> Iterator[DemoPair]:
    """Yield the pairs of a split, without end."""
    sampler = Sampler(_SEEDS[split])
    seen: set[str] = set()
    while True:
        sentence = sampler.sentence()
        is_unseen = any(is_held_out(pair) for clause in sentence.clauses for pair in combinations(clause))
        if is_unseen != (split == "unseen"):
            continue
        pair = translate(sentence)
        is_ours = is_unseen or _split_of(pair.german) == split
        num_words = max(len(pair.english.split()), len(pair.german.split()))
        if is_ours and num_words <= _MAX_WORDS and pair.german not in seen:
            seen.add(pair.german)
            yield pair


def _split_of(german: str) -> str:
    """Return the split of a sentence without held-out pairs. A checksum decides, whatever the sizes of the splits."""
    return {0: "valid", 1: "test"}.get(crc32(german.encode()) % 8, "train")
