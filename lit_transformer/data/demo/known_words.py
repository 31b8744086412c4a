"""English words that a model of the demo corpus does not know. It spells them with parts of others and guesses."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from functools import cache

from lit_transformer.data.demo import grammar, lexicon, verbs

_WORD = re.compile(r"[^\W\d_]+")
_BY_GRAMMAR = "an am is are was were do does did not that who i he she it we they"
"""English words that are in no entry."""
_LARGEST_VOCABULARY = 3_000
"""The text of the demo corpus gives fewer tokens."""
_LEAST_LETTERS = 4
"""Shorter tokens are parts of words of any text."""
_SHARE = 0.8


def unknown_words(text: str, tokens: Sequence[str]) -> list[str]:
    """The words of an English sentence that the demo corpus does not have.

    Args:
        text: The sentence.
        tokens: All tokens of the model's vocabulary. Unless it was learned from the demo corpus, no word is unknown.
    """
    if not _is_of_demo(tuple(tokens)):
        return []
    return [word for word in dict.fromkeys(_WORD.findall(text)) if word.lower() not in english_words()]


@cache
def english_words() -> frozenset[str]:
    """The English words of the demo corpus in lower case."""
    texts = [text for name, text in _texts() if name in ("english", "english_plural", "third_person", "negated")]
    nouns = [f"{noun.english}s" for noun in lexicon.NOUNS if noun.german_plural and not noun.english_plural]
    return frozenset(_words(" ".join([*texts, *nouns, _BY_GRAMMAR])))


@cache
def _is_of_demo(tokens: tuple[str, ...]) -> bool:
    """Whether most tokens are parts of entries of the lexicon. Inflection adds others."""
    parts = [part for token in tokens for part in _words(token) if len(part) >= _LEAST_LETTERS]
    entries = " ".join([text.lower() for _, text in _texts()] + list(english_words()))
    return len(tokens) <= _LARGEST_VOCABULARY and sum(part in entries for part in parts) > _SHARE * len(parts)


def _texts() -> Iterator[tuple[str, str]]:
    """The strings of all entries, each with its name."""
    waiting: list[object] = [value for module in (lexicon, verbs, grammar) for value in vars(module).values()]
    while waiting:
        value = waiting.pop()
        if isinstance(value, tuple):
            waiting += value
        elif is_dataclass(value) and not isinstance(value, type):
            for field in fields(value):
                content = getattr(value, field.name)
                if isinstance(content, str):
                    yield field.name, content
                else:
                    waiting.append(content)


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]
