import hashlib
import io
import itertools
import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as spm
from hypothesis import given
from hypothesis import strategies as st

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.characters import has_content, valid
from lit_transformer.data import tokenizer as tokenizers
from lit_transformer.data.tokenizer import Normalization, Tokenizer
from lit_transformer.errors import UserError

TEXT = [
    sentence
    for number in range(47)
    for sentence in (
        f"The little dog sees {number} cats.",
        f"Der kleine Hund sieht {number} Katzen, größer </ s>",
    )
]
# Written for these tests: text that NFKC and the other rules would change.
LANGUAGES = [
    "我们明天去北京，你呢？“好的！”（共１２３人）",
    "これは「テスト」です！　ＡＢＣとｶﾅ、５０％～６０％。",
    "오늘은 날씨가 참 좋네요… 그렇죠?",
    "او می\u200cرود و کتاب\u200cها را می\u200cخواند؛ نمی\u200cدانم.",
    "قال المدير: مرحبًا بكم\u200f.",
    "क़लम मेज़ पर है। क्\u200dया?",
    "น้ำทำให้คนงานจำได้",
    "Tiếng Việt rất đẹp, phải không?",
    "Où va-t-il\u202f? «\u00a0À l’école\u00a0», dit-elle\u202f!",
    "100 m² à 20 °C, ½ l, Nº 5, ﬁn… ™ x₂",
    "cafe\u0301 and café are two spellings of one word",
]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXT, vocab_size=131, character_coverage=1.0)


@pytest.fixture(scope="module")
def byte_tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXT, vocab_size=131 + 256, character_coverage=1.0, byte_fallback=True)


def round_trip(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    return tokenizer.decode(tokenizer.encode(texts))


def learn(**settings: Any) -> spm.SentencePieceProcessor:
    """A model that another project could have published: SentencePiece's defaults."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT), model_writer=model, minloglevel=2, **({"vocab_size": 45} | settings)
    )
    return spm.SentencePieceProcessor(model_proto=model.getvalue())


def test_vocabulary_and_special_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 131
    assert tokenizer.tokens([PAD_ID, UNK_ID, BOS_ID, EOS_ID]) == ["<pad>", "<unk>", "<s>", "</s>"]
    tokens = tokenizer.tokens(tokenizer.encode(["The dog sieht"])[0])
    assert "".join(tokens) == "\u2581The\u2581dog\u2581sieht"


def test_training_is_deterministic(tokenizer: Tokenizer) -> None:
    assert Tokenizer.train(TEXT, vocab_size=131, character_coverage=1.0).model_bytes == tokenizer.model_bytes


def test_vocabularies_of_older_versions_can_be_learned_again() -> None:
    """To the byte, so that their runs can be resumed."""
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=model,
        model_type="bpe",
        vocab_size=131,
        character_coverage=1.0,
        normalization_rule_name="nmt_nfkc",
        hard_vocab_limit=True,
        num_threads=16,
        minloglevel=2,
        pad_id=PAD_ID,
        unk_id=UNK_ID,
        bos_id=BOS_ID,
        eos_id=EOS_ID,
    )
    again = Tokenizer.train(TEXT, vocab_size=131, character_coverage=1.0, normalization="nmt_nfkc", byte_fallback=False)
    assert again.model_bytes == model.getvalue()


@given(st.text(alphabet=sorted(set("".join(TEXT))) + [" ", "\t", "\u2028", "\u00a0"], max_size=29))
def test_decode_inverts_encode(tokenizer: Tokenizer, text: str) -> None:
    """White space that the vocabulary lacks becomes a space."""
    assert round_trip(tokenizer, [text]) == [" ".join(text.split())]


# Without the two code points that are reserved for the inside of programs (`test_what_survives`).
@given(st.text(st.characters(exclude_characters="\ufdd0\ufdd1", exclude_categories=["Cs"]), max_size=23))
def test_with_bytes_nothing_is_unknown(byte_tokenizer: Tokenizer, text: str) -> None:
    [ids] = byte_tokenizer.encode([text])
    assert UNK_ID not in ids
    assert byte_tokenizer.decode([ids]) == [re.sub(" +", " ", text.strip()) if has_content(text) else ""]


def test_half_a_character_in_bytes_does_not_fail(byte_tokenizer: Tokenizer) -> None:
    ids = byte_tokenizer.encode(["☃"])[0]
    assert byte_tokenizer.decode([ids[:-1]])[0].strip("\ufffd") == ""


def test_large_vocabularies_have_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "BYTE_FALLBACK_FROM", 387)
    for vocab_size, byte_fallback, known in ((387, None, True), (210, None, False), (210, False, False)):
        small = Tokenizer.train(TEXT, vocab_size=vocab_size, character_coverage=1.0, byte_fallback=byte_fallback)
        assert (UNK_ID not in small.encode(["☃"])[0]) == known


def test_every_language_survives_the_vocabulary() -> None:
    tokenizer = Tokenizer.train(LANGUAGES, vocab_size=330, character_coverage=1.0)
    assert round_trip(tokenizer, LANGUAGES) == LANGUAGES


def test_every_language_survives_as_bytes(byte_tokenizer: Tokenizer) -> None:
    assert round_trip(byte_tokenizer, LANGUAGES) == LANGUAGES


def test_news_survives_the_vocabulary(shared_data: Path) -> None:
    news = [
        line
        for name in (
            "newstest_en_de/newstest2014.de",
            "newstest_en_fr/newstest2014.fr",
            "newstest_en_fr/newstest2014.en",
        )
        for line in (shared_data / name).read_text(encoding="utf-8").split("\n")[:-1:3]
    ]
    assert len(news) == 3003
    assert round_trip(Tokenizer.train(news, vocab_size=600, character_coverage=1.0), news) == news


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("identity", "Ｅ，m²\u202f? می\u200cرود"),
        ("nfkc", "E,m2 ? می\u200cرود"),
        ("nmt_nfkc", "E,m2 ? می رود"),
        ("nfkc_cf", "e,m2 ? می\u200cرود"),
        ("nmt_nfkc_cf", "e,m2 ? می رود"),
    ],
)
def test_a_vocabulary_carries_its_rule(rule: Normalization, expected: str) -> None:
    """So old checkpoints, which have nmt_nfkc, still work."""
    text = "Ｅ，m²\u202f? می\u200cرود"
    trained = Tokenizer.train([text], vocab_size=24, character_coverage=1.0, normalization=rule)
    assert round_trip(pickle.loads(pickle.dumps(trained)), [text]) == [expected]


def test_what_other_rules_rewrite() -> None:
    text = "￭ m² ， a\tb ▁ می\u200cرود"
    for rule, expected in (("nfkc", "■ m2 , a\tb ▁ می\u200cرود"), ("nmt_nfkc", "■ m2 , a b ▁ می رود")):
        settings: Any = {"normalization": rule, "vocab_size": 330, "byte_fallback": True}
        assert round_trip(Tokenizer.train(TEXT, character_coverage=1.0, **settings), [text]) == [expected]


def test_only_bytes_keep_the_null_character(byte_tokenizer: Tokenizer) -> None:
    learned = Tokenizer.train(["a\0b"] * 9, vocab_size=8, character_coverage=1.0)
    assert round_trip(byte_tokenizer, ["a\0b"]) == ["a\0b"]
    assert round_trip(learned, ["a\0b"]) == ["ab"]


def test_invisible_characters_do_not_make_a_word_unknown(tokenizer: Tokenizer) -> None:
    expected = tokenizer.encode(["The little dog"])
    for text in (
        "\ufeffThe\u00a0little\u3000dog",
        "\u200bThe lit\u00adtle\tdog\u200e",
        "The \x01little\u2028\u2066dog\u2069",
    ):
        assert tokenizer.encode([text]) == expected

    known = Tokenizer.train(["The\u200clittle\u00a0dog"], vocab_size=20, character_coverage=1.0)
    assert round_trip(known, ["The\u200clittle\u00a0dog"]) == ["The\u200clittle\u00a0dog"]


def test_white_space_around_a_text_is_removed(tokenizer: Tokenizer) -> None:
    around = "\u3000 {}\u0085\r\u00a0"
    spaced = Tokenizer.train([around.format("a b")], vocab_size=12, character_coverage=1.0)
    for each, text in itertools.product((tokenizer, spaced), ("a b", "")):
        assert each.encode([around.format(text)]) == each.encode([text])


@given(st.text(max_size=23))
def test_no_text_gives_a_control_id_or_fails(tokenizer: Tokenizer, text: str) -> None:
    """Any text at all: half surrogate pairs, NUL, direction marks, private characters."""
    [ids] = tokenizer.encode([text])
    assert not {PAD_ID, BOS_ID, EOS_ID} & set(ids)
    assert "\n" not in tokenizer.decode([ids])[0]


@pytest.mark.parametrize("text", ["</s>", "<s> a </s> b", "<pad><pad>", "<unk>", "x" * 100_000])
def test_special_tokens_written_out_are_text(tokenizer: Tokenizer, text: str) -> None:
    [ids] = tokenizer.encode([text])
    assert ids
    assert not {PAD_ID, BOS_ID, EOS_ID} & set(ids)


def test_literal_end_of_sentence_survives(tokenizer: Tokenizer) -> None:
    """Its characters are in the training text, so they are text and end nothing."""
    assert tokenizer.decode(tokenizer.encode(["der Hund </s> sieht"])) == ["der Hund </s> sieht"]


def test_decode_stops_at_the_end_and_drops_control_ids(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(["Der Hund"])[0]
    sequences = [[BOS_ID, *ids, EOS_ID, *ids, PAD_ID], [*ids, PAD_ID, PAD_ID], [EOS_ID, *ids], [PAD_ID], []]
    assert tokenizer.decode(sequences) == ["Der Hund", "Der Hund", "", "", ""]
    assert tokenizer.decode([]) == []
    assert tokenizer.encode([]) == []
    with pytest.raises(IndexError):
        tokenizer.decode([[tokenizer.vocab_size]])


def test_pickled_tokenizer_is_the_same(tokenizer: Tokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.model_bytes == tokenizer.model_bytes
    assert copy.encode(TEXT) == tokenizer.encode(TEXT)


def test_the_bounds_of_vocab_size_are_named_and_right() -> None:
    with pytest.raises(UserError, match=r"vocab_size is 9999\b.*largest.* \d+$") as error:
        Tokenizer.train(TEXT, vocab_size=9999, character_coverage=1.0)
    largest = int(str(error.value).split()[-1])
    assert Tokenizer.train(TEXT, vocab_size=largest, character_coverage=1.0).vocab_size == largest
    with pytest.raises(UserError, match=r"vocab_size is 7\b.*smallest.* \d+;") as error:
        Tokenizer.train(TEXT, vocab_size=7, character_coverage=1.0)
    assert "byte_fallback" not in str(error.value)  # it is off
    smallest = int(re.findall(r"\d+", str(error.value))[1])
    assert Tokenizer.train(TEXT, vocab_size=smallest, character_coverage=1.0).vocab_size == smallest
    with pytest.raises(UserError, match="byte_fallback to false"):
        Tokenizer.train(TEXT, vocab_size=smallest, character_coverage=1.0, byte_fallback=True)


@pytest.mark.parametrize("text", [[], ["", "  "], ["\u200b\u2060"] * 99])
def test_nothing_to_train_on(text: list[str]) -> None:
    with pytest.raises(UserError, match="no text"):
        Tokenizer.train(text, vocab_size=100, character_coverage=1.0)


def test_from_file_names_the_file_and_the_remedy(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    with pytest.raises(UserError, match=r"cannot read .*x\.model: No such file"):
        Tokenizer.from_file(path)
    garbage = hashlib.sha512(b"garbage").digest()
    for content in (b"", b"text\n", garbage, tokenizer.model_bytes[:999], tokenizer.model_bytes[:-7]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"x\.model: .*not a SentencePiece model"):
            Tokenizer.from_file(path)
    path.write_bytes(tokenizer.model_bytes)
    assert Tokenizer.from_file(path).encode(TEXT) == tokenizer.encode(TEXT)


@pytest.mark.parametrize("model_type", ["unigram", "bpe", "char"])
@pytest.mark.parametrize(
    ("special_ids", "added"),
    [
        ({}, ["<pad>"]),  # SentencePiece's defaults: unk 0, bos 1, eos 2
        ({"pad_id": 3}, []),
        ({"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}, ["<s>"]),
        ({"bos_id": -1, "eos_id": -1}, ["<pad>", "<s>", "</s>"]),
        ({"pad_id": 9, "unk_id": 5, "pad_piece": "[PAD]", "unk_piece": "[UNK]"}, []),
        ({"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}, []),
    ],
)
def test_models_with_other_special_ids(model_type: str, special_ids: dict[str, Any], added: list[str]) -> None:
    original = learn(model_type=model_type, **special_ids)
    tokenizer = pickle.loads(pickle.dumps(Tokenizer(original.serialized_model_proto())))
    assert tokenizer.added == added
    assert tokenizer.vocab_size == original.get_piece_size() + len(added)
    assert tokenizer.tokens(list(range(4))) == ["<pad>", "<unk>", "<s>", "</s>"]
    texts = [*TEXT, "a dog", "größer ☃ z"]
    encoded = tokenizer.encode(texts)
    assert any(UNK_ID in ids for ids in encoded)
    for text, ids in zip(texts, encoded, strict=True):
        pieces = [original.id_to_piece(piece_id) for piece_id in original.encode(text)]
        unknown = original.id_to_piece(original.unk_id())
        assert tokenizer.tokens(ids) == ["<unk>" if piece == unknown else piece for piece in pieces]
        assert tokenizer.decode([[BOS_ID, *ids, EOS_ID, *ids, PAD_ID]]) == [original.decode(original.encode(text))]
    others = tokenizer.tokens(list(range(4, tokenizer.vocab_size)))
    assert len(set(others)) == len(others)
    with pytest.raises(IndexError):
        tokenizer.decode([[tokenizer.vocab_size]])


def test_models_with_bytes_and_other_special_ids() -> None:
    original = learn(model_type="bpe", vocab_size=320, byte_fallback=True, normalization_rule_name="identity")
    tokenizer = Tokenizer(original.serialized_model_proto())
    assert round_trip(tokenizer, LANGUAGES) == LANGUAGES
    assert not any(UNK_ID in ids for ids in tokenizer.encode(LANGUAGES))


def test_a_special_token_that_text_can_give_is_not_one() -> None:
    """A model may have `</s>` as a symbol of its own. Text must not end a sequence."""
    tokenizer = Tokenizer(learn(user_defined_symbols=["</s>"]).serialized_model_proto())
    assert "</s>" in tokenizer.added
    [ids] = tokenizer.encode(["der Hund </s> sieht"])
    assert EOS_ID not in ids
    assert tokenizer.decode([ids]) == ["der Hund </s> sieht"]


SYMBOLS = ["<2de>", "<URL>", "▁x▁"]


@pytest.mark.parametrize(
    "text", ["<2de> The dog", "sees <URL>.", "cats<2de>cats", "<URL><URL>", "<2de>", "The ▁x▁ dog", "<2d e>"]
)
def test_symbols_stay_whole(text: str) -> None:
    tokenizer = Tokenizer.train(
        [*TEXT, "<2d e>"], vocab_size=131, character_coverage=1.0, byte_fallback=False, symbols=SYMBOLS
    )
    assert tokenizer.vocab_size == 131
    [ids] = tokenizer.encode([text])
    assert len([token_id for token_id in ids if 4 <= token_id < 7]) == sum(map(text.count, SYMBOLS))
    assert tokenizer.decode([ids]) == [text]


@pytest.mark.parametrize("symbols", [["</s>"], ["<pad>"], [""], ["a b"], [" a"], ["a\u3000"], ["<a>", "<b>", "<a>"]])
def test_symbols_that_cannot_be_tokens(symbols: list[str]) -> None:
    with pytest.raises(UserError, match="symbols has") as error:
        Tokenizer.train(TEXT, vocab_size=131, character_coverage=1.0, symbols=symbols)
    assert repr(symbols[0]) in str(error.value)


def test_a_vocabulary_without_symbols_is_as_before(tokenizer: Tokenizer) -> None:
    assert Tokenizer.train(TEXT, vocab_size=131, character_coverage=1.0, symbols=()).model_bytes == (
        tokenizer.model_bytes
    )


# docs/text.md has this table in words. The first column is text, and the second what comes back of it.
SURVIVES = {
    "a word": "a word",
    "two  spaces": "two spaces",
    " around\u3000": "around",
    "a\ttab": "a\ttab",
    "no\u00a0break \u202f thin\u3000wide": "no\u00a0break \u202f thin\u3000wide",
    "zero\u200cwidth\u200dsoft\u00adhyphen": "zero\u200cwidth\u200dsoft\u00adhyphen",
    "\u2068mark\u2069\u200f ❤\ufe0f 👩\u200d💻": "\u2068mark\u2069\u200f ❤\ufe0f 👩\u200d💻",
    "\x1b[1mcontrol\x7f": "\x1b[1mcontrol\x7f",
    "line\nend\r\u2028": "line end",
    "￭ ■ ａ ﬁ ½ m²": "￭ ■ ａ ﬁ ½ m²",
    "e\u0301 é": "e\u0301 é",
    "The▁dog ▁a ▁▁": "The▁dog ▁a ▁▁",
    "▅ ▅▁": "▅ ▅▁",
    "@@ ##ly </s> <unk>": "@@ ##ly </s> <unk>",
    "\ue000 \U0010fffd \ufffe": "\ue000 \U0010fffd \ufffe",
    "\ufdd0 \ufdd1": "▁ ▅",
    "\u200b \u2060\ufeff": "",
    "half \ud800": "half ?",
}


@pytest.mark.parametrize("text", SURVIVES)
def test_what_survives(byte_tokenizer: Tokenizer, text: str) -> None:
    """With tokens of their own, and as bytes."""
    learned = Tokenizer.train([valid(text)] * 3 + TEXT, vocab_size=180, character_coverage=1.0, byte_fallback=False)
    assert round_trip(byte_tokenizer, [text]) == [SURVIVES[text]]
    assert round_trip(learned, [text]) == [SURVIVES[text]]


@pytest.mark.parametrize(
    ("text", "expected", "unknown"),
    [
        ("a\tdog\u00a0sees\u3000a", "a dog sees a", []),
        ("lit\u200dtle\ufe0f \u2068dog\u2069\0", "little dog", []),
        ("\ufe0f\u200b", "", []),
        ("The 😀你 dog 😀", None, ["😀你", "😀"]),
        ("The▁dog ▅", None, ["▁", "▅"]),
        ("m² ￭\ufdd0\ud800", None, ["m²", "￭▁?"]),
        ("\u0600", None, ["\u0600"]),  # a format character that is visible
    ],
)
def test_what_a_vocabulary_lacks(tokenizer: Tokenizer, text: str, expected: str | None, unknown: list[str]) -> None:
    assert tokenizer.unknown(text) == unknown
    [ids] = tokenizer.encode([text])
    assert ids.count(UNK_ID) == len(unknown)
    if expected is not None:
        assert tokenizer.decode([ids]) == [expected]


@pytest.mark.parametrize(
    ("text", "known"),
    [("The", True), ("😀 a", True), (".", True), ("😀 你 😀", False), ("▁", False), ("", False), ("\u2060", False)],
)
def test_whether_anything_is_known(tokenizer: Tokenizer, text: str, known: bool) -> None:
    [ids] = tokenizer.encode([text])
    assert tokenizer.has_known([BOS_ID, *ids, EOS_ID, PAD_ID]) == known


def test_lines_of_any_length_teach_the_vocabulary(tokenizer: Tokenizer) -> None:
    """SentencePiece would leave out lines of more than 4,192 bytes."""
    long = " ".join(TEXT)
    assert len(long.encode()) > 2000
    paragraphs = [" ".join([long] * 4)] * 2 + ["☃" * 3000, "▅ dog"]
    learned = Tokenizer.train(paragraphs, vocab_size=131, character_coverage=1.0)
    assert round_trip(learned, ["☃ The dog ▅", *TEXT]) == ["☃ The dog ▅", *TEXT]
    # A line of sentences teaches what the sentences teach.
    assert Tokenizer.train([" ".join(TEXT * 3)], vocab_size=131, character_coverage=1.0).model_bytes == (
        tokenizer.model_bytes
    )
