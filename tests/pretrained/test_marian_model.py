"""A folder of `transformers` with a Marian model translates here as `generate` does."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import log_softmax

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID, pad
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.decoding.transformer_search import search_batch
from lit_transformer.decoding.translator import Translator
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
