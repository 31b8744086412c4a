"""The script that a character belongs to, by the first word of its name in Unicode."""

import unicodedata
from functools import cache

WITHOUT_SPACES = frozenset({"CJK", "Hiragana", "Katakana", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan"})
"""Scripts that write no spaces between words."""
SYMBOLS = "Symbols"
"""What `script_of` calls everything that is neither a letter nor a mark on one."""


@cache
def script_of(character: str) -> str:
    """Return the name of a script, for example `Arabic`, or `SYMBOLS`."""
    if unicodedata.category(character)[0] not in "LM":
        return SYMBOLS
    first = unicodedata.name(character, "unassigned").split()[0].split("-")[0]
    return first if first == "CJK" else first.capitalize()
