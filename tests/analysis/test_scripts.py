"""Scripts of characters and of texts."""

import pytest

from lit_transformer.analysis.scripts import SYMBOLS, script_of, unsplit_script


@pytest.mark.parametrize(
    ("character", "script"),
    [("a", "Latin"), ("漢", "CJK"), ("ア", "Katakana"), ("ー", "Katakana"), ("ก", "Thai"), ("ع", "Arabic")],
)
def test_scripts(character: str, script: str) -> None:
    assert script_of(character) == script


@pytest.mark.parametrize("character", ["😀", ".", "1", "\u200b", "\U000e0fff"])
def test_what_belongs_to_no_script(character: str) -> None:
    assert script_of(character) == SYMBOLS


@pytest.mark.parametrize(
    ("sentences", "script"),
    [
        (["The cat sleeps.", "Donaudampfschifffahrtsgesellschaft"], None),
        (["那只猫在睡觉因为它很累。", "The cat sleeps."], "CJK"),
        (["那 只 猫 在 睡觉 ， 因为 它 很 累 。"], None),
        (["私は毎日学校へ歩いて行く。"], "CJK"),
        (["私 は 毎日 学校 へ 歩いて 行く 。"], None),
        (["แมวกำลังนอนหลับ"], "Thai"),
        (["แมว กำลัง นอนหลับ"], None),
        ([""], None),
    ],
)
def test_text_without_spaces_between_words(sentences: list[str], script: str | None) -> None:
    assert unsplit_script(sentences) == script
