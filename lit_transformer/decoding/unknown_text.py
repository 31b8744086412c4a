"""Text that a vocabulary does not know: it is copied or left out, and notes say so."""

from collections import Counter
from collections.abc import Sequence

from lit_transformer.batch import UNK_ID
from lit_transformer.characters import has_content, listed, valid
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.notes import first_few, print_note


def copied(text: str) -> str:
    """What stands for the translation of a text without known tokens: the text on one line, or nothing if it is empty.

    A model would invent a sentence, because such texts all look the same to it.
    """
    return " ".join(valid(text).splitlines()) if has_content(text) else ""


def note_unknown(
    texts: Sequence[str], encoded: Sequence[Sequence[int]], tokenizer: Tokenizer, *, first_line: int
) -> None:
    """Print which unknown characters are left out of translations, and how many texts are copied.

    Args:
        texts: The texts to translate.
        encoded: Their token ids.
        tokenizer: The vocabulary.
        first_line: The line number of the first text.
    """
    copied_lines = []
    lines_with_unknown = []
    characters: Counter[str] = Counter()
    for number, (text, ids) in enumerate(zip(texts, encoded, strict=True), start=first_line):
        if not tokenizer.has_known(ids):
            if has_content(text):
                copied_lines.append(number)
        elif UNK_ID in ids:
            lines_with_unknown.append(number)
            characters.update(character for run in tokenizer.unknown(text) for character in run)
    if lines_with_unknown:
        print_note(
            f"unknown characters in {len(lines_with_unknown):,} of {len(texts):,} lines are left out of the "
            f"translations: {listed(characters)} (the first in line {lines_with_unknown[0]:,})"
        )
    if copied_lines:
        print_note(f"the vocabulary knows no character of {first_few('line', copied_lines)}: copied unchanged")
