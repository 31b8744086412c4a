"""The sample of a corpus that a vocabulary is learned from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_transformer.data.learning_text import LONGEST_LINE_BYTES, evenly_spread, short_lines


@pytest.mark.parametrize("num_sentences", [0, 1, 10, 11, 12, 30, 31, 95, 1000])
def test_sample_of_a_long_text_is_spread_over_it_and_over_both_languages(num_sentences: int) -> None:
    kept = [int(text) for text in evenly_spread(map(str, range(num_sentences)), max_sentences=11)]
    step = kept[1] - kept[0] if len(kept) > 1 else 1
    assert kept == list(range(0, num_sentences, step))
    assert len(kept) <= 11
    assert step == 1 or (len(kept) > 3 and step % 3 == 0)
    if num_sentences > 11:
        assert {index % 2 for index in kept} == {0, 1}


@given(st.lists(st.tuples(st.sampled_from(["word ", "ß", "你", "😀", "\n", "  "]), st.integers(0, 5000)), max_size=4))
def test_long_lines_are_cut_into_short_ones(parts: list[tuple[str, int]]) -> None:
    line = "".join(text * number for text, number in parts)
    lines = list(short_lines([line]))
    assert "".join(lines) == line
    assert all(len(part.encode()) <= LONGEST_LINE_BYTES for part in lines)
    if len(line.encode()) <= LONGEST_LINE_BYTES:
        assert lines == [line]


def test_no_word_is_cut_that_fits() -> None:
    words = [f"word-{number}-ß\u00a0{number}" for number in range(2000)]
    found = [word for part in short_lines(["x", " ".join(words)]) for word in part.split(" ") if word]
    assert found == ["x", *words]


@pytest.mark.parametrize("line", ["x" * 3_000_000, "x " * 1_000_000])
def test_a_line_of_megabytes(line: str) -> None:
    assert sum(map(len, short_lines([line]))) == len(line)
