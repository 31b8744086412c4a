"""What a person should know about translated lines, gathered over many of them and printed as few notes."""

import time
from collections import Counter
from collections.abc import Sequence

from lit_transformer.batch import UNK_ID
from lit_transformer.characters import has_content, listed
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.sentence_ends import lost_sentences
from lit_transformer.model.config import TransformerConfig
from lit_transformer.notes import first_few, print_note
from lit_transformer.search_settings import SearchSettings

SECONDS_PER_NOTE = 60.0
"""A long translation prints its notes this often."""
FEW_LINES = 16
"""Somebody waits for the answer to this few lines: a person or another program. Their notes are printed at once."""


class Remarks:
    """Remarks about the lines of one input.

    Args:
        config: The model's architecture, whose positions can limit a translation.
        settings: The settings of the search.
    """

    def __init__(self, config: TransformerConfig, settings: SearchSettings) -> None:
        self._positions = "" if config.longest is None else f", and the model has {config.longest:,} positions"
        self._limit = f"max_extra_length is {settings.max_extra_length}"
        if settings.max_length is not None:
            self._limit = f"max_length is {settings.max_length}"
        self._printed = time.monotonic()
        self._clear()

    def _clear(self) -> None:
        self._num_lines = 0
        self._copied: list[int] = []
        self._with_unknown: list[int] = []
        self._unknown: Counter[str] = Counter()
        self._cut: list[int] = []
        self._shortened: list[int] = []

    def add_sources(
        self, texts: Sequence[str], encoded: Sequence[Sequence[int]], tokenizer: Tokenizer, *, first_line: int
    ) -> None:
        """Remark which lines are copied and which characters are left out.

        Args:
            texts: The texts to translate.
            encoded: Their token ids.
            tokenizer: The vocabulary.
            first_line: The line number of the first text.
        """
        self._num_lines += len(texts)
        for number, (text, ids) in enumerate(zip(texts, encoded, strict=True), start=first_line):
            if not tokenizer.has_known(ids):
                if has_content(text):
                    self._copied.append(number)
            elif UNK_ID in ids:
                self._with_unknown.append(number)
                self._unknown.update(character for run in tokenizer.unknown(text) for character in run)

    def add_translation(self, number: int, source: str, translation: str, *, finished: bool) -> None:
        """Remark whether the translation of a line was cut at the length limit, or lost a sentence."""
        if not finished:
            self._cut.append(number)
        elif lost_sentences(source, translation):
            self._shortened.append(number)

    def print_if_due(self, num_lines: int) -> None:
        """Print the remarks after a chunk of this many lines, unless they can wait."""
        if num_lines <= FEW_LINES or time.monotonic() - self._printed >= SECONDS_PER_NOTE:
            self.print()

    def print(self) -> None:
        """Print and forget the remarks."""
        if self._with_unknown:
            print_note(
                f"unknown characters in {len(self._with_unknown):,} of {self._num_lines:,} lines are left out of the "
                f"translations: {listed(self._unknown)} (the first in line {self._with_unknown[0]:,})"
            )
        if self._copied:
            print_note(f"the vocabulary knows no character of {first_few('line', self._copied)}: copied unchanged")
        if self._cut:
            print_note(
                f"{first_few('line', self._cut)}: the translation is cut, because it did not end within the length "
                f"limit ({self._limit}{self._positions})"
            )
        if self._shortened:
            print_note(
                f"{first_few('line', self._shortened)}: the translation has fewer sentences than the source; many "
                "models translate only one sentence at a time, so give each sentence a line of its own"
            )
        self._printed = time.monotonic()
        self._clear()
