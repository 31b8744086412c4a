"""What is text: the characters that are content, and how messages name characters.

Every room asks here: reading corpora, learning vocabularies, translating, scoring, attention and alignment.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import chain, groupby

MAX_NAMED = 10
"""Characters that a message names at most."""
_CONTROL = ((0x00, 0x1F), (0x7F, 0x9F))
_DEFAULT_IGNORABLE = (
    (0xAD, 0xAD),  # soft hyphen
    (0x34F, 0x34F),  # combining grapheme joiner
    (0x61C, 0x61C),  # Arabic letter mark
    (0x115F, 0x1160),  # Hangul fillers
    (0x17B4, 0x17B5),  # Khmer inherent vowels
    (0x180B, 0x180F),  # Mongolian variation selectors and vowel separator
    (0x200B, 0x200F),  # zero-width space, joiners, direction marks
    (0x202A, 0x202E),  # embeddings and overrides of direction
    (0x2060, 0x206F),  # word joiner, invisible operators, isolates
    (0x3164, 0x3164),  # Hangul filler
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFEFF, 0xFEFF),  # byte order mark
    (0xFFA0, 0xFFA0),  # half-width Hangul filler
    (0xFFF0, 0xFFF8),  # unassigned
    (0x1BCA0, 0x1BCA3),  # shorthand controls
    (0x1D173, 0x1D17A),  # musical controls
    (0xE0000, 0xE0FFF),  # tags and more variation selectors
)
"""First and last code points of Default_Ignorable_Code_Point in Unicode's DerivedCoreProperties.txt (4,174 in 15.1)."""
_SPACES = [ord(character) for character in map(chr, range(0x3001)) if character.isspace()]

INVISIBLE = frozenset(
    map(chr, chain(_SPACES, *(range(first, last + 1) for first, last in (*_CONTROL, *_DEFAULT_IGNORABLE))))
)
"""White space, control characters, and the characters that Unicode calls default-ignorable."""


def character_class(characters: Iterable[str]) -> str:
    """Characters as a regular expression has them between brackets. Ranges are much faster than single characters."""
    codes = sorted(map(ord, characters))
    runs = [[code for _, code in run] for _, run in groupby(enumerate(codes), key=lambda pair: pair[1] - pair[0])]
    return "".join(f"{re.escape(chr(run[0]))}-{re.escape(chr(run[-1]))}" for run in runs)


CONTENT = f"[^{character_class(INVISIBLE)}]"
"""Regular expression of a character that is content."""
_CONTENT = re.compile(CONTENT)
_WORD = re.compile("[^ \t]+")


def has_content(text: str) -> bool:
    """Whether a text has a character that is not invisible. A text without one is an empty text."""
    return _CONTENT.search(text) is not None


def split_words(text: str) -> list[str]:
    """The words of a sentence: what spaces (U+0020) and tabs separate.

    Programs that read and write alignments count words like this. Other white space, such as the no-break space of
    French "10 %", is part of a word.
    """
    return _WORD.findall(text)


def valid(text: str) -> str:
    """A text that can be written as UTF-8. Half surrogate pairs become question marks."""
    return text.encode("utf-8", "replace").decode()


def listed(counts: Counter[str]) -> str:
    """List the most frequent characters with their counts."""
    names = [f"{_name(character)} {count:,}" for character, count in counts.most_common(MAX_NAMED)]
    return ", ".join([*names, "..."] if len(counts) > MAX_NAMED else names)


def _name(character: str) -> str:
    """A character itself, or its code point if it cannot be seen alone."""
    is_visible = character.isprintable() and has_content(character) and unicodedata.category(character)[0] != "M"
    return character if is_visible else f"U+{ord(character):04X}"
