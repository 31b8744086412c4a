"""Which characters are text."""

import sys
import unicodedata
from collections import Counter

import pytest

from lit_transformer.characters import INVISIBLE, character_class, has_content, listed, split_words, valid

# One character of each range of Unicode's Default_Ignorable_Code_Point.
IGNORABLE = (
    "\u00ad\u034f\u061c\u1160\u17b4\u180e\u180f\u200b\u200c\u200d\u200e\u202b\u2060\u2065\u2069\u3164\ufe0f\ufeff"
    "\uffa0\ufff0\U0001bca0\U0001d173\U000e0001\U000e0041\U000e01ef"
)


def test_what_unicode_calls_white_space_control_and_default_ignorable_is_no_content() -> None:
    for character in f"{IGNORABLE}\0\x07\x1b\x7f\x85 \t\n\u00a0\u2009\u2028\u3000":
        assert not has_content(character), ascii(character)
        assert character in INVISIBLE
        assert has_content(f"{character}a")
    assert not has_content("")
    assert not has_content(IGNORABLE)


def test_invisible_is_what_has_no_content() -> None:
    assert {character for character in map(chr, range(sys.maxunicode + 1)) if not has_content(character)} == INVISIBLE
    # 4,174 default-ignorable characters, 65 control characters, and white space that is no control character.
    spaces = sum(unicodedata.category(character)[0] == "Z" for character in INVISIBLE)
    assert len(INVISIBLE) == 4174 + 65 + spaces


@pytest.mark.parametrize("character", [*"a.你\u0301\u0600\ufffd\ufff9\ue000😀\u2800"])
def test_other_characters_are_content(character: str) -> None:
    assert has_content(f"\u200b{character} ")


def test_characters_are_listed_with_their_counts() -> None:
    assert listed(Counter({"😀": 2, "你": 1})) == "😀 2, 你 1"
    assert listed(Counter(dict.fromkeys("\u0301\u200b\ufe0f\u3164\x07\u00a0", 1234))) == (
        "U+0301 1,234, U+200B 1,234, U+FE0F 1,234, U+3164 1,234, U+0007 1,234, U+00A0 1,234"
    )
    many = "abcdefghijk"
    assert listed(Counter(many)) == ", ".join([*(f"{character} 1" for character in many[:10]), "..."])


def test_a_class_of_characters_in_ranges() -> None:
    assert character_class("dabf") == "a-bd-df-f"


def test_half_surrogate_pairs_are_replaced() -> None:
    assert valid("a\udc80 你") == "a? 你"


def test_spaces_and_tabs_separate_words() -> None:
    """Programs in C count words like this: a no-break space is part of a word."""
    assert split_words(" 10\u00a0% of\tthe \u3000 cats ") == ["10\u00a0%", "of", "the", "\u3000", "cats"]
    assert split_words(" \t ") == []
