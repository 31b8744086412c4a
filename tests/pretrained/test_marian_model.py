"""A folder of `transformers` with a Marian model translates here as `generate` does."""

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID, pad
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.decoding.static_search import StaticSearch
from lit_transformer.decoding.transformer_search import TransformerSearch, search_batch
from lit_transformer.decoding.translator import Translator
from lit_transformer.decoding.workers import WorkerSearch
from lit_transformer.errors import UserError
from lit_transformer.fit import main as fit
from lit_transformer.pretrained.marian_folder import write_marian_folder
from lit_transformer.pretrained.marian_model import find_languages
from lit_transformer.pretrained.places import load_translation_model
from lit_transformer.search_settings import SearchSettings
from tests.helpers.opus import CODES, EOS, MAX_LENGTH, TEXTS, UNK, generate, sentences, their_ids, write_opus

Opus = tuple[Path, Any, Any]


@pytest.fixture(scope="module")
def opus(tmp_path_factory: pytest.TempPathFactory) -> Opus:
    folder = tmp_path_factory.mktemp("opus") / "opus-mt-en-de"
    return folder, *write_opus(folder)


@pytest.fixture(scope="module")
def trained(opus: Opus) -> TrainedModel:
    return load_translation_model(f"hf:{opus[0]}")


def our_ids(tokenizer: Any) -> dict[int, int]:
    """Our ids by theirs: padding (which is also their first token), unknown, EOS, and the others in their order."""
    special = {tokenizer.pad_token_id: BOS_ID, UNK: UNK_ID, EOS: EOS_ID}
    others = [each for each in range(len(tokenizer.encoder)) if each not in special]
    return special | {each: number for number, each in enumerate(others, start=EOS_ID + 1)}


def test_what_it_is(trained: TrainedModel) -> None:
    assert (trained.source, trained.target, trained.step) == ("en", "de", 0)
    own = SearchSettings(
        beam_size=4,
        length_penalty=1.0,
        min_length=0,
        length_normalization="length",
        stopping="heuristic",
        max_length=MAX_LENGTH - 1,
        unknown=True,
    )
    assert trained.search == own
    assert trained.transformer.source_embedding is None


def test_both_sides_are_tokenized_as_by_theirs(opus: Opus, trained: TrainedModel) -> None:
    ours = our_ids(opus[2])
    for side, tokenizer in enumerate(trained.vocabularies):
        texts = [*sentences(side), *TEXTS]
        theirs = [[ours[each] for each in ids] for ids in their_ids(opus[2], texts, is_target=side == 1)]
        assert tokenizer.encode(texts) == theirs
        # The test asks for unknown pieces, and for texts without any.
        assert 10 < sum(UNK_ID in ids for ids in theirs) < len(texts) - 10


def test_a_language_code_is_one_token(trained: TrainedModel) -> None:
    ids = trained.vocabularies.source.encode([f"{CODES[0]} the dog"])[0]
    assert trained.vocabularies.source.tokens(ids)[0].endswith(CODES[0])


def test_texts_equal_theirs(opus: Opus, trained: TrainedModel) -> None:
    ours, random_ = our_ids(opus[2]), random.Random(1)
    codes = {opus[2].encoder[code] for code in CODES}
    usual = [each for each in ours if each not in codes | {opus[2].pad_token_id, EOS}]
    rows = [random_.choices(usual, k=random_.randrange(1, 12)) for _ in range(200)]
    texts = trained.vocabularies.target.decode([[ours[each] for each in row] for row in rows])
    assert [text.strip() for text in texts] == opus[2].batch_decode(rows, skip_special_tokens=True)


@pytest.mark.parametrize("renormalizes", [False, True])
def test_log_probabilities_equal_theirs(opus: Opus, tmp_path: Path, renormalizes: bool) -> None:
    folder, model, tokenizer = opus
    changed = with_generation(folder, tmp_path / "changed", renormalize_logits=renormalizes)
    ours = our_ids(tokenizer)
    batch = tokenizer(sentences(0)[:20], return_tensors="pt", padding=True)
    target_BT = torch.randint(UNK, tokenizer.pad_token_id, (20, 7))
    target_BT[:, 0] = tokenizer.pad_token_id
    with torch.no_grad():
        logits = model(**batch, decoder_input_ids=target_BT).logits
        if renormalizes:
            logits[..., tokenizer.pad_token_id] = -torch.inf
        theirs = log_softmax(logits, -1)
        number = torch.tensor([ours[each] for each in range(len(ours))])
        mask_BS = batch["attention_mask"].bool()
        source_BS = number[batch["input_ids"]].masked_fill(~mask_BS, PAD_ID)
        found = log_softmax(load_translation_model(changed).transformer(source_BS, number[target_BT]), -1)
    kept = slice(0, tokenizer.pad_token_id) if renormalizes else slice(None)
    torch.testing.assert_close(found[..., number][..., kept], theirs[..., kept], rtol=0.0, atol=1e-5)
    assert found[..., PAD_ID].max() < -50


def with_generation(folder: Path, copy: Path, **settings: Any) -> Path:
    shutil.copytree(folder, copy)
    file = copy / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return copy


SEARCHES = [
    {"num_beams": 1},
    {"num_beams": 4},
    {"num_beams": 6, "length_penalty": 0.6},
    {"num_beams": 4, "length_penalty": 2.0},
    {"num_beams": 4, "early_stopping": True},
    {"num_beams": 4, "early_stopping": "never", "length_penalty": 2.0},
    {"num_beams": 3, "renormalize_logits": False, "length_penalty": 0.0},
    {"num_beams": 4, "max_length": 6},
    {"num_beams": 2, "suppress_tokens": [UNK], "renormalize_logits": False},
    {"num_beams": 4, "min_new_tokens": 5, "renormalize_logits": False},
]


@pytest.mark.parametrize("settings", SEARCHES, ids=str)
def test_the_search_equals_generate(opus: Opus, tmp_path: Path, settings: dict[str, Any]) -> None:
    folder, model, tokenizer = opus
    changed = load_translation_model(with_generation(folder, tmp_path / "changed", **settings))
    texts = [*sentences(0)[:60], *TEXTS]
    ours = our_ids(tokenizer)
    sources = torch.from_numpy(pad([[*ids, EOS_ID] for ids in changed.vocabularies.source.encode(texts)]))
    beam_size = settings["num_beams"]
    # `exact` only promises the best hypothesis.
    count = 1 if settings.get("early_stopping") == "never" or beam_size == 1 else beam_size
    found = search_batch(changed.transformer, sources, replace(changed.search, n_best=count))
    expected = generate(model, tokenizer, texts, **settings, num_return_sequences=count).tolist()
    theirs = [
        [ours[each] for each in row[1 : row.index(EOS) if EOS in row else len(row)] if each != tokenizer.pad_token_id]
        for row in expected
    ]
    assert [hypothesis.tokens for each in found for hypothesis in each] == theirs
    assert len({tuple(row) for row in theirs}) > 20


def test_translations_equal_those_of_generate(opus: Opus, trained: TrainedModel) -> None:
    texts = [*sentences(0)[60:160], *TEXTS]
    translator = Translator(trained.transformer, trained.vocabularies, search=trained.search, batch_tokens=200)
    theirs = opus[2].batch_decode(generate(opus[1], opus[2], texts), skip_special_tokens=True)
    assert [text.strip() for text in translator.translate(texts)] == theirs
    assert UNK in [each for row in generate(opus[1], opus[2], texts).tolist() for each in row]


@pytest.mark.parametrize("engine", ["static", "workers"])
def test_engines_search_alike(trained: TrainedModel, engine: str) -> None:
    texts = trained.vocabularies.source.encode(sentences(0)[:40])
    sources = [[*ids, EOS_ID] for ids in texts]
    plain = TransformerSearch(trained.transformer, 200)
    other = StaticSearch(trained.transformer, 200) if engine == "static" else WorkerSearch(trained.transformer, 200, 2)
    tokens = [[each.tokens for each in best] for best in plain.search(sources, trained.search)]
    assert [[each.tokens for each in best] for best in other.search(sources, trained.search)] == tokens


def test_a_cut_translation_is_not_finished(opus: Opus, tmp_path: Path) -> None:
    """The forced EOS is no word of the model's, so it has no score."""
    model = load_translation_model(with_generation(opus[0], tmp_path / "changed", max_length=4))
    translator = Translator(model.transformer, model.vocabularies, search=model.search)
    cut = [best for best in translator.candidates(sentences(0)[:9]) if not best[0].finished]
    assert cut


@pytest.mark.parametrize("have_same_tokens", [False, True])
def test_two_vocabularies(tmp_path: Path, have_same_tokens: bool) -> None:
    """Each has an embedding, also if their tokens are the same."""
    model, tokenizer = write_opus(tmp_path / "opus", is_shared=False, have_same_tokens=have_same_tokens, num_steps=5)
    trained = load_translation_model(tmp_path / "opus")
    texts = [*sentences(0)[:50], *TEXTS]
    theirs = their_ids(tokenizer, texts)
    source = list(tokenizer.encoder)
    special = {source.index("<pad>"): PAD_ID, UNK: UNK_ID, EOS: EOS_ID}
    ours = special | {
        each: number for number, each in enumerate((n for n in range(len(source)) if n not in special), EOS_ID + 1)
    }
    assert trained.vocabularies.source.encode(texts) == [[ours[each] for each in ids] for ids in theirs]
    expected = tokenizer.batch_decode(generate(model, tokenizer, texts), skip_special_tokens=True)
    translator = Translator(trained.transformer, trained.vocabularies, search=trained.search)
    assert [text.strip() for text in translator.translate(texts)] == expected


def test_a_fine_tuned_model_keeps_all(opus: Opus, tmp_path: Path) -> None:
    """`fit` starts from the folder, resumes, and its run and what is saved of it translate with the same settings."""
    for number, side in enumerate(("en", "de")):
        for split, pairs in (("train", slice(60)), ("valid", slice(60, 70))):
            (tmp_path / f"{split}.{side}").write_text("\n".join(sentences(number)[pairs]) + "\n")
    common = [
        *("--init_from", f"hf:{opus[0]}", "--data.corpus", str(tmp_path), "--data.source", "en", "--data.target", "de"),
        *("--name", "run", "--trainer.default_root_dir", str(tmp_path), "--data.cache_dir", str(tmp_path / "cache")),
        *("--data.tokens_per_batch", "300", "--trainer.accelerator", "cpu"),
        *("--trainer.precision", "32-true"),
    ]
    fit([*common, "--trainer.max_steps", "1"])
    fit([*common, "--trainer.max_steps", "2", "--ckpt_path", "last"])
    before, after = load_translation_model(opus[0]), load_translation_model(tmp_path / "run")
    assert (after.search, after.step) == (before.search, 2)
    assert [each.model_bytes for each in after.vocabularies] == [each.model_bytes for each in before.vocabularies]
    translator = Translator.load(tmp_path / "run", device="cpu")
    translator.save_pretrained(tmp_path / "saved")
    (tmp_path / "exported").mkdir()
    texts = sentences(0)[:5]
    assert Translator.load(tmp_path / "saved", device="cpu").translate(texts) == translator.translate(texts)
    write_marian_folder(tmp_path / "exported", after)
    assert load_translation_model(tmp_path / "exported").search == after.search


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_beams", 0, "beam_size"),
        ("length_penalty", -1.0, "length_penalty"),
        ("no_repeat_ngram_size", 3, "no_repeat_ngram_size"),
        ("do_sample", True, "do_sample"),
        ("early_stopping", "soon", "early_stopping"),
        ("bad_words_ids", [[5, 6]], "bad_words_ids"),
        ("bad_words_ids", [], "bad_words_ids"),
        ("bad_words_ids", "x", "bad_words_ids"),
        ("suppress_tokens", [7], "bad_words_ids"),
        ("repetition_penalty", 1.2, "repetition_penalty"),
        ("eos_token_id", 3, "eos_token_id"),
        ("min_new_tokens", 3, "renormalize_logits"),
        ("max_length", None, None),
    ],
)
def test_a_search_that_is_not_ours(opus: Opus, tmp_path: Path, name: str, value: Any, message: str | None) -> None:
    changed = with_generation(opus[0], tmp_path / "changed", **{name: value})
    if message is None:
        assert load_translation_model(changed).search.max_length == 20
        return
    with pytest.raises(UserError, match=message) as found:
        load_translation_model(changed)
    assert "\n" not in str(found.value)


def damage_json(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | changes))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_json(decoder_layers=3), "decoder_layers"),
        (damage_json(activation_function="tanh"), "activation_function"),
        (damage_json(normalize_before=True), "normalize_before"),
        (damage_json(vocab_size=7, decoder_vocab_size=7), "vocab.json"),
        (damage_json(d_model=12), "opus"),
        (damage_json(pad_token_id=10**9), "special id"),
        (lambda folder: (folder / "vocab.json").write_text('{"<unk>": "a"}'), "vocab.json"),
        (lambda folder: (folder / "vocab.json").write_text("[]"), "vocab.json"),
        (lambda folder: (folder / "source.spm").write_bytes(b"x" * 99), "source.spm"),
        (lambda folder: (folder / "target.spm").unlink(), "target.spm"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pytorch_model.bin"),
    ],
)
def test_a_damaged_folder(opus: Opus, tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    shutil.copytree(opus[0], tmp_path / "opus")
    damage(tmp_path / "opus")
    with pytest.raises(UserError, match=message) as found:
        load_translation_model(tmp_path / "opus")
    assert "\n" not in str(found.value)


def test_languages(tmp_path: Path) -> None:
    names = {"opus-mt-en-de": ("en", "de"), "opus-mt-tc-big-en-fr": ("en", "fr"), "mine": ("", "")}
    for name, languages in names.items():
        (tmp_path / name).mkdir()
        assert find_languages(tmp_path / name) == languages
