"""What a caller gives as texts: checked once, so that no later step meets anything else."""

from collections.abc import Iterable, Mapping, Set
from typing import Any

from lit_transformer.errors import UserError


def checked_texts(texts: Iterable[str], argument: str) -> list[str]:
    """Return texts as a list. Lists, tuples, generators, and pandas and NumPy columns can be given.

    Args:
        texts: The texts.
        argument: Its name, for errors.

    Raises:
        UserError: If these are not texts in an order, or one of them is not a string or has a line feed inside.
    """
    return [check_text(text, f"{argument}[{index}]") for index, text in enumerate(listed_texts(texts, argument))]


def listed_texts(texts: Iterable[str], argument: str) -> list[str]:
    """Return what stands for texts as a list.

    Raises:
        UserError: If it has no order.
    """
    given: Any = texts
    # A dictionary and a table would give their keys.
    is_column = isinstance(given, Iterable) and getattr(given, "ndim", 1) == 1
    if not is_column or isinstance(given, str | bytes | Mapping | Set):
        raise UserError(f"{argument} is of type {type(given).__name__}: give a list of strings")
    return list(texts)


def check_text(text: str, argument: str) -> str:
    """Return a text. Line feeds around it are white space.

    Raises:
        UserError: If it is not a string, or has a line feed inside.
    """
    check_string(text, argument)
    if "\n" in text and "\n" in text.strip():
        raise UserError(f"{argument} has a line feed inside: give one sentence per text")
    return text


def check_string(text: str, argument: str) -> None:
    """Raise UserError if it is not a string."""
    if not isinstance(text, str):
        kind = "" if text is None else f" of type {type(text).__name__}"
        raise UserError(f"{argument} is {text!r:.40}{kind}: give a string")
