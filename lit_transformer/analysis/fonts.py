"""Fonts for the labels of a picture: installed ones that together have all of its characters."""

from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import NamedTuple

from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager, get_font

from lit_transformer.analysis.scripts import SYMBOLS, script_of
from lit_transformer.notes import print_note

PREFERRED = (
    "DejaVu Sans",  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "PingFang SC",
    "Hiragino Sans",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans Devanagari",
    "Arial Unicode MS",
)
"""These are tried first, in this order. Other fonts follow by name."""
MISSING = "\u25a1"
"""Stands in a picture for a character that no font has. matplotlib would warn whenever it draws one."""
LAST_RESORT = "LastResort"
"""Fonts whose names begin like this, spaces apart, have a box for every character."""
NOTO_FONTS = {
    SYMBOLS: "Noto Emoji or Noto Sans Symbols",
    **dict.fromkeys(("CJK", "Hangul", "Hiragana", "Katakana", "Bopomofo"), "Noto Sans CJK"),
}
"""Fonts to install for a script that is not in the name of its font."""
NORMAL_WEIGHT = 400


class Fonts(NamedTuple):
    """The fonts to draw a text with."""

    names: list[str]
    """Names of installed fonts. The first one that has a character draws it."""
    missing: frozenset[str]
    """Characters that no installed font has."""


def choose_fonts(labels: Iterable[str]) -> Fonts:
    """Choose the fewest fonts, in the order of `PREFERRED`. A note names scripts that have no font."""
    missing = {character for label in labels for character in label if character.isprintable()}
    names = [PREFERRED[0]]
    for entry in _installed():
        if not missing:
            break
        drawn = {character for character in missing if ord(character) in _characters(entry.fname)}
        if drawn:
            names.append(entry.name)
            missing -= drawn
    for script in sorted({script_of(character) for character in missing}):
        _note_missing(script)
    return Fonts(list(dict.fromkeys(names)), frozenset(missing))


@cache
def _note_missing(script: str) -> None:
    """Say it once. A run draws the same labels again and again."""
    print_note(
        f"pictures show {MISSING} for characters of the script {script}, because no installed font has them: install "
        f"one, for example {NOTO_FONTS.get(script, f'Noto Sans {script}')}"
    )


@cache
def _installed() -> list[FontEntry]:
    """One upright font of each family, as near to normal weight as there is."""
    _add_new_fonts()
    families: dict[str, FontEntry] = {}
    for entry in sorted(fontManager.ttflist, key=lambda entry: (entry.style != "normal", _distance(entry))):
        families.setdefault(entry.name, entry)
    rank = {name: index for index, name in enumerate(PREFERRED)}
    usable = (entry for name, entry in families.items() if not name.replace(" ", "").startswith(LAST_RESORT))
    return sorted(usable, key=lambda entry: (rank.get(entry.name, len(rank)), entry.name))


def _add_new_fonts() -> None:
    """Add fonts that were installed after matplotlib made its list, which it keeps for all later programs."""
    known = {entry.fname for entry in fontManager.ttflist}
    for file in findSystemFonts():
        if file not in known:
            with suppress(OSError, RuntimeError):  # a damaged font, or one of bitmaps alone
                fontManager.addfont(file)


def _distance(entry: FontEntry) -> int:
    return abs(int(entry.weight) - NORMAL_WEIGHT) if str(entry.weight).isdecimal() else NORMAL_WEIGHT


@cache
def _characters(file: str) -> frozenset[int]:
    try:
        return frozenset(get_font(file).get_charmap())
    except (OSError, RuntimeError):  # a damaged font, or one of bitmaps alone
        return frozenset()
