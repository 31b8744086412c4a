"""How much of a held-out text a vocabulary can write."""

from collections import Counter
from typing import Any

import pytest
from datasets import Dataset

from lit_transformer.data import text as text_module
from lit_transformer.data.coverage import Coverage, measure_coverage
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies

WORDS = [f"word {number} of m² text" for number in range(40)]


def measure(tokenizer: Tokenizer, *pairs: tuple[str, str]) -> Coverage:
    rows = {"source": [pair[0] for pair in pairs], "target": [pair[1] for pair in pairs]}
    return measure_coverage(Dataset.from_dict(rows), Vocabularies.shared(tokenizer), split="validation")


def learn(**options: Any) -> Tokenizer:
    return Tokenizer.train(WORDS, vocab_size=40, character_coverage=1.0, **options)


def test_references_that_can_be_written_and_characters_that_cannot() -> None:
    pairs = [("word 日本日", " m²  text "), ("word", "of\u00a0m²"), ("₂", "text 本"), ("text", "\u2060")]
    found = measure(learn(), *pairs)
    assert (found.num_references, found.num_exact) == (4, 2)
    assert found.unknown == {"日": 2, "本": 2, "₂": 1}
    assert "validation: 4 pairs, 1 with an empty side;" in str(found)
    assert "2 of 4 references (50.0%)" in str(found)
    assert str(found).endswith("5 unknown characters (日 2, 本 2, ₂ 1)")
    assert found.warning is not None
    assert "2 of 4 validation references" in found.warning
    assert "byte_fallback" in found.warning
    with_bytes = measure(Tokenizer.train(WORDS, vocab_size=296, character_coverage=1.0, byte_fallback=True), *pairs)
    assert (with_bytes.num_exact, with_bytes.unknown, with_bytes.warning) == (4, {}, None)


def test_each_side_is_measured_with_its_own_vocabulary() -> None:
    latin, greek = learn(), Tokenizer.train(["αβγ αβ γ"] * 9, vocab_size=10, character_coverage=1.0)
    rows = Dataset.from_dict({"source": ["αβ word"], "target": ["text γ"]})
    found = measure_coverage(rows, Vocabularies(greek, latin), split="validation")
    assert (found.num_exact, found.unknown) == (0, Counter("wordγ"))
    found = measure_coverage(rows, Vocabularies(latin, greek), split="validation")
    assert (found.num_exact, found.unknown) == (0, Counter("αβtext"))


def test_normalization_that_rewrites_references_is_named() -> None:
    found = measure(learn(normalization="nmt_nfkc"), ("word", "m² of text"))
    assert (found.num_exact, found.unknown) == (0, {})
    assert found.warning is not None
    assert "normalization" in found.warning


def test_a_few_of_many_characters_are_named() -> None:
    found = measure(learn(), ("".join(map(chr, range(0x4E00, 0x4E00 + 30))), "text"))
    assert str(found).endswith(
        "30 unknown characters (" + ", ".join(f"{chr(0x4E00 + n)} 1" for n in range(10)) + ", ...)"
    )
    assert found.warning is None


@pytest.mark.parametrize("num_pairs", [0, 1, 10, 11, 95])
def test_a_part_of_a_large_split_is_measured(num_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_module, "SAMPLED_PAIRS", 10)
    found = measure(learn(), *[("word", "text")] * num_pairs)
    assert min(num_pairs, 6) <= found.num_references <= 10
    assert found.num_exact == found.num_references
    assert str(found)
