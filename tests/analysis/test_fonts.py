"""Fonts of pictures: one for every character, and a word about scripts that no font can draw."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from lit_transformer.analysis import figures
from lit_transformer.analysis.fonts import choose_fonts
from lit_transformer.analysis.scripts import script_of
from tests.helpers.attentions import pixels, random_attention

NOT_IN_DEJAVU_SANS = "\u1d81"  # the font STIXGeneral has it, and comes with matplotlib
RARE = "\U00012f90\U0001e290\U00010570\U00010600\U00016a70"  # Cypro-Minoan, Toto, Vithkuqi, Linear A, Tangsa


def test_latin_text_needs_one_font(capsys: pytest.CaptureFixture[str]) -> None:
    assert choose_fonts(["The cat", "Straße."]) == (["DejaVu Sans"], frozenset())
    assert capsys.readouterr().err == ""


def test_a_font_is_found_for_what_the_first_one_lacks() -> None:
    fonts = choose_fonts(["cat", NOT_IN_DEJAVU_SANS])
    assert fonts.names[0] == "DejaVu Sans"
    assert len(fonts.names) == 2
    assert fonts.missing == frozenset()


def test_a_script_without_a_font_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    missing = sorted(choose_fonts([RARE]).missing)
    if not missing:
        pytest.skip("the fonts of this machine have even the rarest scripts")
    notes = capsys.readouterr().err
    for character in missing:
        assert notes.count(f"Noto Sans {script_of(character)}") == 1
    attention = random_attention(["\u2581The", missing[0], "</s>"], num_layers=1)
    figure = figures.head_map(attention, "encoder", layer=0, head=0)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["·The", "□", "</s>"]
    assert capsys.readouterr().err == ""


def test_hebrew_runs_from_right_to_left() -> None:
    """The last letter of a word stands on its left."""
    whole, last, first = (_drawn(text) for text in ("שם", "ם", "ש"))
    width = last.shape[1] - 2  # antialiasing reaches a pixel into the next letter
    assert np.array_equal(whole[:, :width], last[:, :width])
    assert not np.array_equal(whole[:, :width], first[:, :width])


def _drawn(text: str) -> np.ndarray:
    """The pixels of a text from its first column with ink to its last."""
    figure = Figure(figsize=(2, 1))
    figure.text(0.2, 0.5, text, fontsize=30)
    ink = pixels(figure)[:, :, 0]
    columns = np.flatnonzero((ink < 255).any(axis=0))
    return ink[:, columns[0] : columns[-1] + 1]
