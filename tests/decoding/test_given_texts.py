"""Texts as callers give them."""

from typing import Any

import numpy as np
import pytest

from lit_transformer.decoding.given_texts import check_text, checked_texts
from lit_transformer.errors import UserError


@pytest.mark.parametrize("texts", [["a", "b"], ("a", "b"), (text for text in "ab"), np.array(["a", "b"])])
def test_columns_of_texts(texts: Any) -> None:
    assert checked_texts(texts, "texts") == ["a", "b"]


def test_a_column_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    assert checked_texts(pandas.Series(["a", "b"]), "texts") == ["a", "b"]
    with pytest.raises(UserError, match=r"^texts is .*DataFrame"):
        checked_texts(pandas.DataFrame({"a": ["b"]}), "texts")
    with pytest.raises(UserError, match=r"^texts\[1\] is nan"):
        checked_texts(pandas.Series(["a", float("nan")]), "texts")


@pytest.mark.parametrize("texts", ["a", b"a", {"a": 1}, {"a"}, None, 3, np.array([["a"]]), np.array("a")])
def test_what_is_no_column_of_texts(texts: Any) -> None:
    with pytest.raises(UserError, match=rf"^targets is of type {type(texts).__name__}: "):
        checked_texts(texts, "targets")


@pytest.mark.parametrize(
    ("text", "message"), [(None, "None"), (7, "7 of type int"), (b"a", "b'a'"), (["a"], r"\['a'\]"), ("a\nb", "line")]
)
def test_what_is_no_text(text: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"^texts\[1\] .*{message}") as error:
        checked_texts(["a", text], "texts")
    assert "\n" not in str(error.value)


def test_line_feeds_around_a_text() -> None:
    """As `open(path)` and `readlines` give them."""
    assert check_text("a b\n", "text") == "a b\n"
