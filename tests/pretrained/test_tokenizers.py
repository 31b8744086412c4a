"""Tokenizers of others give what those of `transformers` give."""

import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as spm

from lit_transformer.analysis.maps import word_text
from lit_transformer.data.text_tokenizer import SpecialIds
from lit_transformer.errors import UserError
from lit_transformer.pretrained.config import ForeignConfig
from lit_transformer.pretrained.tokenizers import read_tokenizer
from tests.helpers.tokenizers_of_others import LEARNED, byte_level, word_piece

TEXTS = [
    *LEARNED,
    "",
    " ",
    "a  b\tc\n",
    "\U0001f469\u200d\U0001f467 \U0001f600",
    "naïve CAFÉ",
    "שלום مرحبا",
    "\u2581x",
    "\x00\u200b",
]
"""Other scripts, emoji of several code points, no text, and characters that are not in the vocabulary."""


def read(folder: Path, vocab_size: int = 1000, **settings: Any) -> tuple[Any, SpecialIds]:
    return read_tokenizer(folder, ForeignConfig(folder / "config.json", settings), vocab_size=vocab_size)


def save_old_files(oracle: Any, folder: Path, **settings: Any) -> None:
    """The files that older versions wrote."""
    folder.mkdir()
    oracle.backend_tokenizer.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def check_equal(mine: Any, oracle: Any) -> None:
    ids = mine.encode(TEXTS)
    assert ids == [oracle(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert mine.decode(ids) == [oracle.backend_tokenizer.decode(each) for each in ids]
    assert mine.vocab_size == len(oracle)


def test_byte_level_bpe(tmp_path: Path) -> None:
    oracle = byte_level()
    oracle.save_pretrained(tmp_path / "new")
    save_old_files(oracle, tmp_path / "old")
    for name in ("new", "old"):
        mine, special = read(tmp_path / name, eos_token_id=0)
        check_equal(mine, oracle)
        assert special == SpecialIds(bos=None, eos=0, pad=None, mask=None)
        for text in LEARNED:
            assert word_text(mine.tokens(mine.encode([text])[0])) == text
        # Whole characters where a token has some, and else bytes.
        [ids] = mine.encode(["The cat \U0001f600"])
        assert "".join(mine.tokens(ids)) == "The\u2581cat\u2581<0xF0><0x9F><0x98><0x80>"
        # Invalid bytes of the command line are half surrogate pairs.
        assert mine.encode(["\udcff"]) == mine.encode(["?"])
        [ids] = mine.encode(["x<|endoftext|>"])
        assert mine.tokens(ids) == ["x", "<|endoftext|>"]


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": False}])
def test_word_piece(tmp_path: Path, settings: dict[str, Any]) -> None:
    oracle = word_piece(**settings)
    oracle.save_pretrained(tmp_path / "new")
    save_old_files(oracle, tmp_path / "old", **settings)
    for name in ("new", "old"):
        mine, special = read(tmp_path / name)
        check_equal(mine, oracle)
        names = {"cls_token": "bos", "sep_token": "eos", "pad_token": "pad", "mask_token": "mask"}
        assert special == SpecialIds(**{ours: getattr(oracle, f"{theirs}_id") for theirs, ours in names.items()})
        [ids] = mine.encode(["cats [MASK]"])
        tokens = mine.tokens(ids)
        assert "".join(tokens[:-1]) == "\u2581cats"
        assert tokens[-1] == "[MASK]"


def test_sentencepiece_with_extra_ids(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\n".join(LEARNED * 5))
    spm.SentencePieceTrainer.train(
        input=str(tmp_path / "text"),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=83,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    oracle = spm.SentencePieceProcessor(model_file=str(tmp_path / "spiece.model"))
    mine, special = read(tmp_path, pad_token_id=0, eos_token_id=1)
    ids = mine.encode(TEXTS)
    assert ids == oracle.encode(TEXTS)
    assert mine.decode(ids) == oracle.decode(ids)
    assert mine.vocab_size == oracle.get_piece_size() + 100
    assert special == SpecialIds(bos=None, eos=1, pad=0, mask=None)
    assert mine.encode(["\udcff"]) == mine.encode(["?"])
    # As T5's tokenizer numbers them: from the end.
    [ids] = mine.encode(["The <extra_id_0> sleeps <extra_id_99>"])
    assert [number for number in ids if number >= oracle.get_piece_size()] == [
        mine.vocab_size - 1,
        oracle.get_piece_size(),
    ]
    assert [token for token in mine.tokens(ids) if "extra" in token] == ["<extra_id_0>", "<extra_id_99>"]


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    """Special ids of the settings remain, if the model has them."""
    assert read(tmp_path, 50, bos_token_id=49, eos_token_id=50) == (None, SpecialIds(49, None, None, None))


@pytest.mark.parametrize("content", ["", "{}", "[]", "null", '{"model": {"type": "BPE"}}', "\udc80"])
@pytest.mark.parametrize("name", ["tokenizer.json", "vocab.json", "spiece.model"])
def test_damaged_files_are_one_line(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / "merges.txt").write_text("no merges")
    (tmp_path / name).write_text(content, errors="surrogateescape")
    with pytest.raises(UserError) as error:
        read(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


PANICS: dict[str, Any] = {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}
NO_UNKNOWN: dict[str, Any] = {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "none"}}


@pytest.mark.parametrize("parts", [PANICS, NO_UNKNOWN])
def test_what_the_package_cannot_build_or_apply_is_one_line(tmp_path: Path, parts: dict[str, Any]) -> None:
    byte_level().save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))
    with pytest.raises(UserError) as error:
        read(tmp_path)[0].encode(["x"])
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_more_tokens_than_the_model_has(tmp_path: Path) -> None:
    word_piece().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="96"):
        read(tmp_path, 96)
