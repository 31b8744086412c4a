"""A vocabulary is learned once for each setting, or read from a file."""

import io
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as spm
from datasets import Dataset

from lit_transformer.batch import UNK_ID
from lit_transformer.data.text import Text
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabulary import find_vocabulary
from lit_transformer.errors import UserError

WORDS = [f"word {number} of m² text" for number in range(40)]
TEXT = Text("words", lambda: Dataset.from_dict({"source": WORDS, "target": WORDS}))


def find(cache_dir: Path, text: Text = TEXT, **settings: Any) -> Tokenizer:
    defaults: dict[str, Any] = {"file": None, "vocab_size": 40, "character_coverage": 1.0}
    defaults |= {"normalization": "identity", "byte_fallback": None, "symbols": ()}
    return find_vocabulary(text, cache_dir=cache_dir, **(defaults | settings))


def test_every_setting_has_a_vocabulary_of_its_own_in_the_cache(tmp_path: Path) -> None:
    settings: list[dict[str, Any]] = [
        {},
        {"normalization": "nmt_nfkc"},
        {"vocab_size": 300, "byte_fallback": True},
        {"byte_fallback": False},
        {"symbols": ("t", "word")},
        {"symbols": ("word", "t")},
    ]
    text = "m² ☃\u00a0t"
    tokenizers = [find(tmp_path, **each) for each in settings]
    decoded = [tokenizer.decode(tokenizer.encode([text]))[0] for tokenizer in tokenizers]
    unknown = " ⁇ "
    assert decoded == [f"m² {unknown} t", f"m2 {unknown} t", text, *[f"m² {unknown} t"] * 3]
    assert len({tokenizer.model_bytes for tokenizer in tokenizers}) == len(settings) - 1  # {} has no bytes either
    unread = Text("words", lambda: pytest.fail("the text was read"))
    for each, tokenizer in zip(settings, tokenizers, strict=True):
        assert find(tmp_path, unread, **each).model_bytes == tokenizer.model_bytes


def test_a_vocabulary_of_one_side_knows_the_text_of_that_side_alone(tmp_path: Path) -> None:
    sides = {"source": ["αβγ αβ γ"] * 9, "target": ["xyz xy z"] * 9}
    text = Text("two scripts", lambda: Dataset.from_dict(sides))
    for side, other in (("source", "target"), ("target", "source")):
        tokenizer = find(tmp_path, text, sides=(side,), vocab_size=10)
        assert tokenizer.decode(tokenizer.encode(sides[side])) == sides[side]
        assert UNK_ID in tokenizer.encode(sides[other])[0]
    both = find(tmp_path, text, vocab_size=13)
    assert all(both.decode(both.encode(texts)) == texts for texts in sides.values())
    assert len(list(tmp_path.rglob("*.model"))) == 3


def test_a_file_must_have_the_size_of_the_vocabulary(tmp_path: Path) -> None:
    file = tmp_path / "file.model"
    file.write_bytes(find(tmp_path).model_bytes)
    assert find(tmp_path, file=str(file)).model_bytes == file.read_bytes()
    with pytest.raises(UserError, match=r"vocab_size is 41\b.*file\.model has 40\b"):
        find(tmp_path, file=str(file), vocab_size=41)


def test_a_file_with_other_special_ids_has_the_size_of_the_vocabulary_that_is_made_of_it(tmp_path: Path) -> None:
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(WORDS), model_writer=model, vocab_size=25, minloglevel=2)
    file = tmp_path / "file.model"
    file.write_bytes(model.getvalue())
    assert find(tmp_path, file=str(file), vocab_size=26).model_bytes == model.getvalue()
    with pytest.raises(UserError, match=r"vocab_size is 25\b.* 26 tokens.*<pad>.*vocab_size 26$"):
        find(tmp_path, file=str(file), vocab_size=25)


def test_a_file_must_have_the_symbols(tmp_path: Path) -> None:
    file = tmp_path / "file.model"
    file.write_bytes(find(tmp_path, symbols=["<2de>"]).model_bytes)
    assert find(tmp_path, file=str(file), symbols=["<2de>"]).keeps("<2de>")
    for symbol in ("<2en>", "word 1", "\u200b"):
        with pytest.raises(UserError, match="symbols has") as error:
            find(tmp_path, file=str(file), symbols=["<2de>", symbol])
        assert repr(symbol) in str(error.value)
