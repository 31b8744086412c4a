"""The script that a character belongs to, by the first word of its name in Unicode."""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

from lit_transformer.characters import split_words

WITHOUT_SPACES = frozenset({"CJK", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"})
"""Scripts that write no spaces between words."""
SYMBOLS = "Symbols"
"""What `script_of` calls everything that is neither a letter nor a mark on one."""
LETTERS_PER_WORD = 8
"""A text of `WITHOUT_SPACES` with more letters per word on average has not been split into words."""


@cache
def script_of(character: str) -> str:
    """Return the name of a script, for example `Arabic`, or `SYMBOLS`."""
    if unicodedata.category(character)[0] not in "LM":
        return SYMBOLS
    first = unicodedata.name(character, "unassigned").split()[0].split("-")[0]
    return first if first == "CJK" else first.capitalize()


def unsplit_script(sentences: Sequence[str]) -> str | None:
    """Return the script of a text whose words are not separated, or None if they are or the script needs spaces."""
    letters: Counter[str] = Counter()
    num_words = 0
    for word in (word for sentence in sentences for word in split_words(sentence)):
        # A word of Japanese may have three scripts.
        scripts = [script for script in map(script_of, word) if script in WITHOUT_SPACES]
        letters.update(scripts)
        num_words += bool(scripts)
    return max(letters, key=letters.__getitem__) if letters.total() > LETTERS_PER_WORD * num_words else None
