import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece as spm
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_transformer import Translator
from lit_transformer.analysis.maps import as_json, texts_of, word_text
from lit_transformer.analysis.page import Page
from lit_transformer.analysis.words import in_words, merge, text_spans, word_spans
from lit_transformer.batch import PAD_ID
from lit_transformer.characters import split_words
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from tests.helpers.attentions import one_stack

PAIRS = demo_pairs("train", num_pairs=31)
ENGLISH = [pair.english for pair in PAIRS]
H, T, S = 2, 5, 7


def learn(**options: object) -> Tokenizer:
    model = io.BytesIO()
    settings: dict[str, Any] = {"model_type": "bpe", "vocab_size": 90, "minloglevel": 2}
    special = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(ENGLISH), model_writer=model, **{**settings, **special, **options}
    )
    return Tokenizer(model.getvalue())


@cache
def trained(**options: Any) -> Tokenizer:
    return Tokenizer.train(ENGLISH, **{"vocab_size": 80, "character_coverage": 1.0} | options)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return trained()


def tokens_of(tokenizer: Tokenizer, text: str) -> list[str]:
    text = " ".join(split_words(text))
    [ids] = tokenizer.encode([text])
    return tokenizer.name_unknown(tokenizer.tokens(ids), text)


def texts(tokens: list[str], spans: list[range]) -> list[str]:
    return [word_text([tokens[index] for index in span]) for span in spans]


def test_words_of_tokens() -> None:
    tokens = ["<s>", "▁The", "▁c", "at", ".", "▁", "<unk>", "s", "</s>"]
    spans = word_spans(tokens)
    assert spans == [range(1), range(1, 2), range(2, 5), range(5, 8), range(8, 9)]
    assert texts(tokens, spans) == ["<s>", "The", "cat.", "<unk>s", "</s>"]
    assert word_spans(["<s>", "no", "▁mark", "</s>"]) == [range(1), range(1, 2), range(2, 3), range(3, 4)]
    assert word_spans(["</s>"]) == [range(1)]
    assert word_spans([]) == []


def test_tokens_for_single_bytes() -> None:
    tokenizer = learn(byte_fallback=True, vocab_size=320)
    text = "The ☃é dog"
    tokens = tokens_of(tokenizer, text)
    assert "<0xE2>" in tokens
    assert texts(tokens, word_spans(tokens)) == split_words(text)
    assert texts(tokens, text_spans(text, tokens, tokenizer)) == split_words(text)
    # Half a character.
    assert word_text(["▁a", "<0xE2>", "<0x98>", "b"]) == "a\ufffdb"


@given(st.lists(st.text("Thecatdog.,", min_size=1, max_size=7), max_size=7))
def test_words_join_to_the_text(tokenizer: Tokenizer, words: list[str]) -> None:
    tokens = tokens_of(tokenizer, " ".join(words))
    assert texts(tokens, word_spans(tokens)) == words
    assert texts(tokens, text_spans(" ".join(words), tokens, tokenizer)) == words


@pytest.mark.parametrize(
    "settings_of_vocabulary", [{}, {"normalization": "nmt_nfkc"}, {"vocab_size": 336, "byte_fallback": True}]
)
@given(text=st.text(max_size=19))
@settings(max_examples=200)
def test_every_word_of_any_text_has_its_tokens(settings_of_vocabulary: dict[str, Any], text: str) -> None:
    tokenizer = trained(**settings_of_vocabulary)
    tokens = tokens_of(tokenizer, text)
    spans = text_spans(text, tokens, tokenizer)
    assert len(spans) == len(split_words(text))
    assert [index for span in spans for index in span] == list(range(len(tokens)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The cat", [1, 1]),
        ("The\u3000cat \u00a0 dog\u2028a", [2, 0, 2]),  # no word ends at other white space
        ("a¨a cat", [2, 1]),  # NFKC writes the diaeresis as a space and a combining character
        ("a\u200ba cat", [2, 1]),
        ("a▁a cat", [1, 1]),  # the mark itself is text
        ("The \x01 cat", [1, 0, 1]),
        ("The \u200b", [1, 0]),
        ("a\x1ca", [1]),
        ("", []),
    ],
)
def test_words_that_normalisation_changes(text: str, expected: list[int]) -> None:
    """How many marked words each word of the text has become with the rule of old checkpoints."""
    tokenizer = trained(normalization="nmt_nfkc")
    tokens = tokens_of(tokenizer, text)
    spans = text_spans(text, tokens, tokenizer)
    assert [len(word_spans([tokens[index] for index in span])) for span in spans] == expected


def test_words_of_the_demo_corpus_and_of_tokenized_text(tokenizer: Tokenizer, shared_data: Path) -> None:
    folder = shared_data / "hansards_gold_alignments"
    lines = [(folder / name).read_text(encoding="utf-8").split("\n")[:-1] for name in ("test.en", "test.fr")]
    for text in [*(pair.german for pair in PAIRS), *lines[0], *lines[1]]:
        tokens = tokens_of(tokenizer, text)
        assert len(text_spans(text, tokens, tokenizer)) == len(split_words(text))


@pytest.mark.parametrize(
    "options", [{"split_by_whitespace": False, "vocab_size": 300}, {"treat_whitespace_as_suffix": True}]
)
def test_a_vocabulary_whose_tokens_are_not_parts_of_words(options: dict[str, object]) -> None:
    tokenizer = learn(**options)
    text = " ".join(ENGLISH)
    with pytest.raises(UserError, match=r"vocabulary .*'The dog did not .* spaces"):
        text_spans(text, tokens_of(tokenizer, text), tokenizer)


def test_tokens_of_another_text(tokenizer: Tokenizer) -> None:
    for other in ("The dog", "The cat sleeps", "The", ""):
        with pytest.raises(UserError, match="'The cat'"):
            text_spans("The cat", tokens_of(tokenizer, other), tokenizer)


def test_columns_are_summed_and_rows_averaged() -> None:
    weights_HTS = np.random.default_rng(3).random((H, T, S), np.float32)
    weights_HTS /= weights_HTS.sum(axis=-1, keepdims=True)
    rows, columns = [range(2), range(2, 2), range(2, 5)], [range(1), range(1, 4), range(4, 7)]
    merged = merge(weights_HTS, rows, columns)
    assert merged.shape == (H, 3, 3)
    assert merged.dtype == np.float32
    expected = (weights_HTS[1, 2, 1:4].sum() + weights_HTS[1, 3, 1:4].sum() + weights_HTS[1, 4, 1:4].sum()) / 3
    assert merged[1, 2, 1] == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(merged.sum(axis=-1), [[1, 0, 1]] * H, rtol=1e-6)


def test_attention_and_page_of_tokens_for_single_bytes() -> None:
    tokenizer = trained(vocab_size=336, byte_fallback=True)
    config = TransformerConfig(d_model=8, d_ff=16, num_heads=2, num_layers=1)
    translator = Translator(Transformer(config, vocab_size=336, pad_id=PAD_ID), tokenizer)
    attention = translator.attention("The ☃é dog", "Der ☃ Hund")
    words = in_words(attention)
    assert words.source == ["The", "☃é", "dog", "</s>"]
    assert words.target_output == ["Der", "☃", "Hund", "</s>"]
    np.testing.assert_allclose(words.cross[0].sum(axis=-1), 1.0, rtol=1e-5)
    assert r"\u003c0xE2\u003e" in Page([attention]).html


def test_attention_between_words(tiny_run: Path) -> None:
    translator = Translator.load(tiny_run)
    for pair in PAIRS[:5]:
        attention = translator.attention(pair.english, pair.german)
        words = in_words(attention)
        assert words.source == [*pair.english.split(), "</s>"]
        assert words.target_input == ["<s>", *pair.german.split()]
        assert words.target_output == [*pair.german.split(), "</s>"]
        assert len(attention.target_input) > len(words.target_input)
        num_source, num_target = len(words.source), len(words.target_input)
        for maps, size in (
            (words.encoder, (2, num_source, num_source)),
            (words.decoder, (2, num_target, num_target)),
            (words.cross, (2, num_target, num_source)),
        ):
            assert maps[0].shape == size
            np.testing.assert_allclose(maps[0].sum(axis=-1), 1.0, rtol=1e-5)
        assert not np.triu(words.decoder[0], 1).any()
        # The first word is said by the rows of its tokens. `<s>` is read by the first of them.
        spans = word_spans(attention.target_output)
        expected = attention.cross[0][:, list(spans[0]), -1].mean(axis=1)
        np.testing.assert_allclose(words.cross[0][:, 0, -1], expected, rtol=1e-5)
        np.testing.assert_array_equal(words.decoder[0][:, 0, 0], 1.0)


def test_special_tokens_are_no_part_of_a_word() -> None:
    """Those of BERT, GPT-2 and T5, between tokens as `ForeignTokenizer.tokens` writes them."""
    tokens = ["[CLS]", "\u2581cat", "s", "[MASK]", "\u2581and", "[SEP]"]
    assert [[*span] for span in word_spans(tokens)] == [[0], [1, 2], [3], [4], [5]]
    assert [[*span] for span in word_spans(["<|endoftext|>", "Th", "e"])] == [[0], [1, 2]]
    assert [[*span] for span in word_spans(["a", "<extra_id_0>", "b", "<0xE2>"])] == [[0], [1], [2, 3]]


def test_one_stack_in_words() -> None:
    bert, gpt = in_words(one_stack("encoder")), in_words(one_stack("decoder"))
    assert bert.source == ["[CLS]", "The", "cat", "sleeps.", "[SEP]"]
    assert (bert.decoder, bert.cross, gpt.encoder, gpt.cross) == ({}, {}, {}, {})
    for maps in (*bert.encoder.values(), *gpt.decoder.values()):
        np.testing.assert_allclose(maps.sum(axis=-1), 1.0, rtol=1e-5)
    assert texts_of(bert) == {"text": "The cat sleeps."}
    assert list(as_json(gpt, digits=3)) == ["text", "decoder"]
