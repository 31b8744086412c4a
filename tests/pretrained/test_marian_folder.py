"""A model that is exported as a Marian folder gives the same numbers, tokens and translations in `transformers`."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from transformers import AutoTokenizer, GenerationConfig, MarianMTModel, MarianTokenizer

from lit_transformer import SearchSettings, Translator
from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.characters import INVISIBLE
from lit_transformer.checkpoints.places import load_checkpoint
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.data.tokenizer import Normalization, Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.pretrained.marian_folder import check_expressible, standalone_model, write_marian_folder
from lit_transformer.pretrained.marian_search import generation_config, search_of_generate
from lit_transformer.pretrained.places import load_translation_model
from tests.helpers.opus import CODES, generate, their_ids, write_opus
from tests.helpers.opus import TEXTS as OPUS_TEXTS

pytestmark = pytest.mark.filterwarnings("ignore:Recommended. pip install sacremoses")

SOURCES = ["a black cat sleeps in the garden", "two dogs and a cat play in the old garden", "the garden is black"] * 3
TARGETS = ["eine schwarze Katze schläft im Garten", "zwei Hunde und eine Katze spielen im alten Garten"] * 3
AS_OPUS = SearchSettings(
    beam_size=6, length_normalization="length", length_penalty=1.0, stopping="heuristic", max_length=40
)
INVISIBLE_BUT_ZERO = sorted(INVISIBLE - {"\0"})
TEXTS = [
    "a black cat",
    "the unknown Żaba and 😀😀",
    "",
    "  two  dogs \t\n",
    "\ufeffa\u00a0black\u200b cat",
    "a \u2581 and a \u2585",
    "<pad> </s> <s> <unk>cat</s>",
    "cat <",
    "\u00ad\u200d",
]


def make_tokenizer(lines: list[str], vocab_size: int, normalization: Normalization = "identity") -> Tokenizer:
    return Tokenizer.train(lines, vocab_size=vocab_size, character_coverage=1.0, normalization=normalization)


def make_model(vocabularies: Vocabularies, **config: Any) -> TrainedModel:
    sizes = {"d_model": 12, "d_ff": 14, "num_heads": 3, "num_layers": 2}
    transformer = Transformer(
        TransformerConfig(**sizes | config),
        vocab_size=vocabularies.target.vocab_size,
        pad_id=PAD_ID,
        source_vocab_size=vocabularies.source_vocab_size,
    )
    with torch.no_grad():
        for parameter in transformer.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.1)
    return TrainedModel(transformer.eval().requires_grad_(False), vocabularies, "en", "de", 7, Path("model"))


@pytest.fixture(scope="module")
def shared() -> Vocabularies:
    return Vocabularies.shared(make_tokenizer(SOURCES + TARGETS, 60))


@pytest.fixture(scope="module")
def separate() -> Vocabularies:
    return Vocabularies(make_tokenizer(SOURCES, 40), make_tokenizer(TARGETS, 50))


@pytest.fixture(scope="module")
def foreign() -> Vocabularies:
    """A vocabulary that another program learned: with other ids, and without a space before the first word."""
    model = io.BytesIO()
    lines = iter(SOURCES + TARGETS)
    SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, vocab_size=40, add_dummy_prefix=False, minloglevel=2
    )
    return Vocabularies.shared(Tokenizer(model.getvalue()))


@contextmanager
def no_warnings() -> Iterator[None]:
    """Fail if `transformers` logs a warning in this block."""
    logged: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert logged == []


@pytest.mark.parametrize("kind", ["shared", "separate"])
@pytest.mark.parametrize(
    "config",
    [{}, {"activation": "gelu_tanh", "attention_bias": True, "output_bias": True, "feed_forward_bias": False}],
)
def test_transformers_loads_it_and_computes_the_same(
    kind: str, config: dict[str, Any], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    vocabularies: Vocabularies = request.getfixturevalue(kind)
    model = make_model(vocabularies, **config)
    write_marian_folder(tmp_path, model)
    with no_warnings():
        theirs = MarianMTModel.from_pretrained(tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path)
        batch = tokenizer(SOURCES[:3], text_target=TARGETS[:3], return_tensors="pt", padding=True)
        ids = theirs.generate(**{name: batch[name] for name in ("input_ids", "attention_mask")}, max_length=9)
    assert isinstance(tokenizer, MarianTokenizer)
    assert not {*ids[:, 1:].flatten().tolist()} & {UNK_ID, BOS_ID}
    target_input_BT = torch.randint(EOS_ID, vocabularies.target.vocab_size, (3, 7))
    with torch.no_grad():
        expected = theirs(**{**batch, "labels": None}, decoder_input_ids=target_input_BT).logits
    found = model.transformer(batch["input_ids"], target_input_BT)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("kind", ["shared", "separate", "foreign"])
def test_tokens_and_texts_are_the_same(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    vocabularies: Vocabularies = request.getfixturevalue(kind)
    write_marian_folder(tmp_path, make_model(vocabularies))
    tokenizer = MarianTokenizer.from_pretrained(tmp_path)
    encoded = tokenizer(TEXTS, text_target=TEXTS)
    assert [ids[:-1] for ids in encoded["input_ids"]] == vocabularies.source.encode(TEXTS)
    assert [ids[:-1] for ids in encoded["labels"]] == vocabularies.target.encode(TEXTS)
    assert {ids[-1] for ids in encoded["input_ids"] + encoded["labels"]} == {EOS_ID}
    sequences = [[BOS_ID, *ids, EOS_ID, PAD_ID] for ids in vocabularies.target.encode(TARGETS)]
    assert tokenizer.batch_decode(sequences, skip_special_tokens=True) == TARGETS


ALONE = make_tokenizer(SOURCES + TARGETS, 60)
SENTENCEPIECE = SentencePieceProcessor(model_proto=standalone_model(ALONE))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.sampled_from(INVISIBLE_BUT_ZERO)))
def test_the_sentencepiece_model_alone_gives_the_tokens(text: str) -> None:
    assert SENTENCEPIECE.encode(text) == ALONE.encode([text])[0]


def test_normalization_stays() -> None:
    tokenizer = make_tokenizer(SOURCES, 40, normalization="nfkc")
    texts = [*TEXTS, "ａ ｂｌａｃｋ\u3000ｃａｔ"]
    assert SentencePieceProcessor(model_proto=standalone_model(tokenizer)).encode(texts) == tokenizer.encode(texts)
    assert tokenizer.encode([texts[-1]]) == tokenizer.encode(["a black cat"])


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"norm": "pre"}, "norm"),
        ({"positions": "rotary"}, "positions"),
        ({"positions": "learned"}, "positions"),
        ({"norm_type": "rms"}, "norm_type"),
        ({"norm_epsilon": 1e-6}, "norm_epsilon"),
        ({"embedding_norm": True}, "embedding_norm"),
        ({"tied_output": False}, "tied_output"),
        ({"window": 3}, "window"),
        ({"activation": "gated_silu"}, "activation"),
        ({"d_k": 5}, "d_k"),
        ({"d_v": 5}, "d_v"),
        ({"num_heads": 5, "d_k": 2, "d_v": 2}, "d_k"),
    ],
)
def test_what_marian_does_not_have_is_named(config: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError, match=rf"^{named} is ") as error:
        check_expressible(TransformerConfig(**{"d_model": 12, "num_heads": 3} | config))
    assert "\n" not in str(error.value)


def test_what_marian_has_is_accepted() -> None:
    check_expressible(TransformerConfig())
    check_expressible(TransformerConfig(d_model=12, num_heads=3, d_k=4, d_v=4, scale_embedding=False))


@pytest.mark.parametrize(
    "search",
    [
        SearchSettings(),
        SearchSettings(beam_size=1, length_penalty=0.0, min_length=2, max_length=30),
        AS_OPUS,
        replace(AS_OPUS, stopping="full", unknown=True),
    ],
)
def test_the_search_of_generate(search: SearchSettings, capsys: pytest.CaptureFixture[str]) -> None:
    kept = search_of_generate(search)
    assert ("note: " in capsys.readouterr().err) == (kept != search)
    with no_warnings():
        theirs = GenerationConfig(**generation_config(kept))
        theirs.validate()
    assert theirs.num_beams == search.beam_size
    assert (theirs.length_penalty or 0.0) == (search.length_penalty if search.length_normalization == "length" else 0.0)
    assert (UNK_ID in theirs.suppress_tokens) == (not search.unknown)


@pytest.mark.parametrize("search", [SearchSettings(), AS_OPUS])
def test_generate_finds_the_same_translations(search: SearchSettings, tiny_run: Path, tmp_path: Path) -> None:
    model = replace(load_checkpoint(tiny_run), search=search)
    write_marian_folder(tmp_path, model)
    tokenizer, theirs = MarianTokenizer.from_pretrained(tmp_path), MarianMTModel.from_pretrained(tmp_path)
    lines = [pair.english for pair in demo_pairs("train", num_pairs=31)]
    with no_warnings():
        ids = theirs.generate(**tokenizer(lines, return_tensors="pt", padding=True))
        found = tokenizer.batch_decode(ids, skip_special_tokens=True)
    translator = Translator.load(tiny_run, device="cpu")
    assert found == translator.translate(lines, search_of_generate(search))


@pytest.mark.parametrize("kind", ["shared", "separate", "foreign"])
def test_it_is_read_back_as_it_was(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    model = make_model(request.getfixturevalue(kind))
    write_marian_folder(tmp_path, model)
    again = load_translation_model(tmp_path)
    assert (again.source, again.target) == ("en", "de")
    own, kept = generation_config(again.search), generation_config(search_of_generate(model.search))
    assert own == kept
    for side, texts in (("source", SOURCES), ("target", TARGETS)):
        before, after = getattr(model.vocabularies, side), getattr(again.vocabularies, side)
        assert after.encode(TEXTS + texts) == before.encode(TEXTS + texts)
        assert after.decode(after.encode(texts)) == texts
    source_BS = torch.randint(EOS_ID, 30, (2, 7))
    target_input_BT = torch.randint(EOS_ID, 30, (2, 5))
    expected = model.transformer(source_BS, target_input_BT)
    torch.testing.assert_close(again.transformer(source_BS, target_input_BT), expected, rtol=0.0, atol=1e-5)


def test_a_model_of_opus_goes_out_as_it_came_in(tmp_path: Path) -> None:
    model, tokenizer = write_opus(tmp_path / "opus")
    (tmp_path / "again").mkdir()
    write_marian_folder(tmp_path / "again", load_translation_model(tmp_path / "opus"))
    theirs = MarianMTModel.from_pretrained(tmp_path / "again", dtype=torch.float64)
    again = MarianTokenizer.from_pretrained(tmp_path / "again")
    texts = [*OPUS_TEXTS, f"{CODES[1]} A dog eats.", "The cat sleeps."]
    before, after = ([each.convert_ids_to_tokens(ids) for ids in their_ids(each, texts)] for each in (tokenizer, again))
    assert after == before
    expected, found = (
        tokenizer_.batch_decode(generate(model_, tokenizer_, texts), skip_special_tokens=True)
        for model_, tokenizer_ in ((model, tokenizer), (theirs, again))
    )
    assert found == expected
