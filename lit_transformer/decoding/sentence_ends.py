"""How many sentences a text has, at least and at most, in any language.

No rule finds all ends of sentences and nothing else. So a text is counted twice: by what is certainly an end, and by
what may be one. A translation has lost a sentence if it can have fewer than its source certainly has.
"""

import re

_ANYWHERE = "。！？｡।॥۔؟։።፧။៕។།"
"""Marks that end a sentence also without a space after them."""
_CLOSING = "\"'»”’“)\\]}›」』）】"
_OPENING = "¿¡«„“\"'([{"
_PERHAPS = ".!?…:;؛"
"""Marks that may end a sentence if something other than a letter or a digit follows."""
# Bounds and possessive quantifiers keep the search linear in a long text without spaces, or of marks alone.
_CERTAIN = re.compile(
    rf"(?P<word>\S{{1,40}}?)(?P<mark>[.!?])\s++[{re.escape(_OPENING)}]*+(?=(?P<next>\w))"
    rf"|(?<![{_ANYWHERE}])[{_ANYWHERE}]++\s*+(?=[^{_CLOSING}])"
)
_POSSIBLE = re.compile(rf"(?<![{_PERHAPS}])[{_PERHAPS}]++(?=[\s{_CLOSING}]|\Z)|[{_ANYWHERE}]++")
_VOWELS = re.compile("[aeiouyäöüáéíóúàèìòùâêîôûåøæœа-яёα-ω]", re.IGNORECASE)
_SHORT = 4
"""A capitalized word of at most this many letters may be a title or a month: `Prof. Sato`, `Sept. Monday`."""


def lost_sentences(source: str, translation: str) -> bool:
    """Whether a translation certainly has fewer sentences than its source.

    A translation without any mark cannot be judged: Thai has none, and neither have some corpora.
    """
    *_, rest = _POSSIBLE.split(translation)
    most = len(_POSSIBLE.findall(translation))
    if most == 0:
        return False
    return most + any(character.isalnum() for character in rest) < fewest_sentences(source)


def fewest_sentences(text: str) -> int:
    """The number of sentences that a text has at least."""
    return 1 + sum(found["word"] is None or _is_end(found) for found in _CERTAIN.finditer(text))


def _is_end(found: re.Match[str]) -> bool:
    if found["next"].islower() or found["next"].isdigit():
        return False
    return found["mark"] != "." or _is_word(found["word"].lstrip(_OPENING))


def _is_word(word: str) -> bool:
    """Whether the period after a word is no part of it, as it is in `e.g.`, `3.`, `Dr.`, `J.` and `vs.`."""
    if not word.isalpha() or len(word) == 1:
        return False
    if word[0].isupper() and len(word) <= _SHORT:
        return False
    return not word.isascii() or _VOWELS.search(word) is not None
