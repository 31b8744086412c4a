"""The words of the demo corpus."""

import re

import pytest

from lit_transformer.data.demo.corpus import DEMO_SPLITS, demo_pairs
from lit_transformer.data.demo.known_words import english_words, unknown_words
from lit_transformer.data.tokenizer import Tokenizer


def test_the_words_of_the_corpus() -> None:
    pairs = [pair for split in DEMO_SPLITS for pair in demo_pairs(split, num_pairs=3000 if split == "train" else None)]
    found = {word.lower() for pair in pairs for word in re.findall(r"\w+", pair.english)}
    assert found <= english_words()
    assert len(english_words() - found) < 40  # forms that the grammar does not use, and rare ones


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    demo = [text for pair in demo_pairs("train", num_pairs=1000) for text in (pair.english, pair.german)]
    other = [re.sub(r"\w+", lambda word: word.group()[::-1], text) for text in demo]
    texts = {"demo": demo, "other": other}
    return {name: Tokenizer.train(lines, vocab_size=700, character_coverage=1.0) for name, lines in texts.items()}


@pytest.mark.parametrize(("name", "expected"), [("demo", ["elephant", "loudly", "Zoe"]), ("other", [])])
def test_unknown_words(tokenizers: dict[str, Tokenizer], name: str, expected: list[str]) -> None:
    """Only a vocabulary of the demo corpus knows no other words."""
    tokens = tokenizers[name].tokens(list(range(tokenizers[name].vocab_size)))
    assert unknown_words("The elephant and the tired Cat sing loudly, 3 loudly: Zoe!", tokens) == expected
    assert unknown_words("", tokens) == []
