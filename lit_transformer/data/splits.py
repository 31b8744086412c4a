"""The texts of a run: what it trains on, validates with, and may be tested with."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from lit_transformer.data.corpus import find_text, has_splits
from lit_transformer.data.held_out import hold_out
from lit_transformer.data.monolingual import find_lines
from lit_transformer.data.text import LINE_SCHEMA, PAIR_SCHEMA, MissingSplit, Text
from lit_transformer.errors import UserError
from lit_transformer.notes import print_note


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

    is_split = has_splits(corpus, source=source, target=target)
    return _find(find, corpus, is_split, valid_corpus, valid_pairs, PAIR_SCHEMA, cache_dir)


def find_line_splits(
    corpus: str, *, valid_corpus: str | None, valid_lines: int, language: str, cache_dir: Path
) -> Splits:
    """Find the texts of a run in one language.

    Args:
        corpus: As in `find_splits`, like the next two.
        valid_corpus: The corpus of the validation lines.
        valid_lines: Number of training lines that are held out for validation.
        language: Code of the language.
        cache_dir: Folder for what is computed from the corpus.

    Raises:
        UserError: A text cannot be found, or there are no validation lines.
    """

    def find(corpus: str, split: str) -> Text:
        return find_lines(corpus, split=split, language=language, cache_dir=cache_dir)

    is_split = has_splits(corpus, source=language, target=language)
    return _find(find, corpus, is_split, valid_corpus, valid_lines, LINE_SCHEMA, cache_dir)


def _find(
    find: Callable[[str, str], Text],
    corpus: str,
    is_split: bool,
    valid_corpus: str | None,
    num_held_out: int,
    schema: pa.Schema,
    cache_dir: Path,
) -> Splits:
    kind = "pairs" if schema == PAIR_SCHEMA else "lines"
    remedies = (
        f"set valid_{kind} to a number of training {kind} to hold out, or valid_corpus to a corpus of validation {kind}"
    )
    if valid_corpus is not None and num_held_out:
        raise UserError(f"valid_{kind} is {num_held_out:,}, and valid_corpus is {valid_corpus}: leave out one of them")
    train = find(corpus, "train")
    test = _test_text(lambda: find(corpus, "test")) if is_split else None
    if num_held_out:
        return Splits(*hold_out(train, num_held_out, schema=schema, cache_dir=cache_dir), test)
    if valid_corpus is None and not is_split:
        raise UserError(f"corpus {corpus} has no splits, so no validation {kind}: {remedies}")
    try:
        return Splits(train, find(corpus if valid_corpus is None else valid_corpus, "valid"), test)
    except MissingSplit as error:
        raise UserError(f"{error}; or {remedies}") from error


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
