"""The texts of a run: what it trains on, validates with, and may be tested with."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from lit_transformer.data.corpus import find_text, has_splits
from lit_transformer.data.held_out import hold_out
from lit_transformer.data.text import MissingSplit, Text
from lit_transformer.errors import UserError
from lit_transformer.notes import print_note

_REMEDIES = "set valid_pairs to a number of training pairs to hold out, or valid_corpus to a corpus of validation pairs"


class Splits(NamedTuple):
    """The texts of a run."""

    train: Text
    valid: Text
    test: Text | None
    """None if the corpus has no test split, or one without one of the languages."""


def find_splits(
    corpus: str, *, valid_corpus: str | None, valid_pairs: int, source: str, target: str, cache_dir: Path
) -> Splits:
    """Find the texts of a run.

    Args:
        corpus: The corpus of the training pairs. If it has splits, they are its `train`.
        valid_corpus: The corpus of the validation pairs. If it has splits, they are its `valid`. None means `corpus`.
        valid_pairs: Number of training pairs that are held out for validation in place of a split. 0 means none.
        source: Code of the source language.
        target: Code of the target language.
        cache_dir: Folder for what is computed from the corpus.

    Raises:
        UserError: A text cannot be found, or there are no validation pairs.
    """

    def find(corpus: str, split: str) -> Text:
        return find_text(corpus, split=split, source=source, target=target, cache_dir=cache_dir)

    if valid_corpus is not None and valid_pairs:
        raise UserError(f"valid_pairs is {valid_pairs:,}, and valid_corpus is {valid_corpus}: leave out one of them")
    train, is_split = find(corpus, "train"), has_splits(corpus, source=source, target=target)
    test = _test_text(lambda: find(corpus, "test")) if is_split else None
    if valid_pairs:
        return Splits(*hold_out(train, valid_pairs, cache_dir=cache_dir), test)
    if valid_corpus is None and not is_split:
        raise UserError(f"corpus {corpus} has no splits, so no validation pairs: {_REMEDIES}")
    try:
        return Splits(train, find(corpus if valid_corpus is None else valid_corpus, "valid"), test)
    except MissingSplit as error:
        raise UserError(f"{error}; or {_REMEDIES}") from error


def _test_text(find: Callable[[], Text]) -> Text | None:
    """Return the test set if there is one with both languages. Training needs none."""
    try:
        text = find()
    except UserError:
        return None
    try:
        text.load()
    except MissingSplit as error:  # such as a table without references
        print_note(f"the split test is not used: {error}")
        return None
    return text
