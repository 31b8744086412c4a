"""The way from a corpus to batches, with and without a trainer."""

from itertools import chain, islice, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch

from lit_transformer.batch import EOS_ID, PAD_ID, UNK_ID
from lit_transformer.data import cache, loaders
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.data.store import TokenStore
from lit_transformer.errors import UserError
from tests.helpers.corpora import NUM_SENTENCES, make_corpus, write_folder
from tests.helpers.damage import flip_silently
from tests.helpers.runs import fit


def set_up(corpus: Path, **settings: Any) -> TranslationData:
    defaults: dict[str, Any] = {"vocab_size": 100, "character_coverage": 1.0, "cache_dir": str(corpus.parent / "cache")}
    data = TranslationData(str(corpus), **(defaults | settings))
    data.prepare_data()
    data.setup("fit")
    return data


def test_without_a_trainer_it_gives_the_batches_of_one_device(tmp_path: Path) -> None:
    data = set_up(make_corpus(tmp_path / "corpus"), tokens_per_batch=450, max_tokens_per_device=150)
    batches = list(islice(data.train_dataloader(), 7))
    accumulation = 1 + max(batch.micro_batch for batch in batches)
    assert accumulation > 1
    for number, batch in enumerate(batches):
        assert (batch.step, batch.micro_batch) == divmod(number, accumulation)
        assert max(batch.source_BS.numel(), batch.target_output_BT.numel()) <= 150
    first_step = batches[:accumulation]
    assert sum(batch.num_target_tokens for batch in first_step) == first_step[0].step_target_tokens <= 450
    indices = [index for batch in data.val_dataloader() for index in batch.indices]
    assert sorted(indices) == list(range(NUM_SENTENCES))


@pytest.mark.parametrize(("device", "given", "expected"), [("cpu", None, 120), ("cuda", None, 300), ("cuda", 120, 120)])
def test_validation_batches_are_larger_on_a_gpu(
    device: str, given: int | None, expected: int, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "VALIDATION_BATCH_TOKENS", {"CPU": 120, "GPU": 300})
    data = set_up(corpus, validation_batch_tokens=given)
    data.splits = data.splits._replace(test=data.splits.valid)
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)  # type: ignore[assignment]
    largest = max(text.batch.source_BS.numel() for text in data.predict_dataloader())
    assert expected // 2 < largest <= expected


def test_what_is_not_there_yet(tmp_path: Path) -> None:
    data = TranslationData(str(tmp_path))
    for name in ("vocabularies", "summary", "counts", "epochs"):
        with pytest.raises(AttributeError, match=r"prepare_data\(\).*setup"):
            getattr(data, name)
    for name in ("train", "val", "test", "predict"):
        with pytest.raises(AttributeError, match=r"prepare_data\(\).*setup"):
            getattr(data, f"{name}_dataloader")()


def test_every_trainer_accumulates_what_a_device_cannot_take_at_once(tmp_path: Path) -> None:
    data = set_up(make_corpus(tmp_path / "corpus"), tokens_per_batch=450, max_tokens_per_device=150)
    expected = data.plan.accumulation(max_tokens_per_device=150, world_size=1)
    assert expected > 1
    for _ in range(2):
        every: dict[str, Any] = {"val_check_interval": 7, "check_val_every_n_epoch": None}
        trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **every)
        data.trainer = trainer
        for stage in ("fit", "validate"):
            data.setup(stage)
            assert (trainer.accumulate_grad_batches, trainer.val_check_interval) == (expected, 7 * expected)
        assert max(batch.micro_batch for batch in islice(data.train_dataloader(), expected)) == expected - 1


def tokens_of(store: TokenStore) -> list[list[int]]:
    rows = store.gather(np.arange(NUM_SENTENCES), "target").tolist()
    return [[token for token in row if token != PAD_ID] for row in rows]


def damage_tokens(path: Path) -> None:
    """Change a bit in the middle of a target sentence."""
    row = tokens_of(TokenStore(path))[3]
    flip_silently(path, path.read_bytes().index(np.array(row, np.uint16).tobytes()) + 4)


def test_a_run_stops_at_damage_and_the_next_one_makes_the_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cache, "LARGE_FILE_BYTES", 0)
    corpus = make_corpus(tmp_path / "corpus")
    fit(corpus, tmp_path / "first", trainer__max_steps=2)
    [tokens] = (tmp_path / "cache" / "tokens").glob("*.arrow")
    content = tokens.read_bytes()
    damage_tokens(tokens)
    with pytest.raises(SystemExit) as stopped:
        fit(corpus, tmp_path / "second", trainer__max_steps=2000)
    assert stopped.value.code == 2
    assert f"{tokens} is damaged" in capfd.readouterr().err
    run = fit(corpus, tmp_path / "third", trainer__max_steps=2)
    assert tokens.read_bytes() == content
    assert run.checkpoint(2).exists()


def test_a_datamodule_that_found_damage_opens_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook uses one datamodule for two fits."""
    monkeypatch.setattr(cache, "LARGE_FILE_BYTES", 0)
    corpus = make_corpus(tmp_path / "corpus")
    data = set_up(corpus)
    right = tokens_of(data.store)
    damage_tokens(data.tokens.path)
    data = set_up(corpus)
    assert tokens_of(data.store) != right
    with pytest.raises(UserError, match="is damaged"):
        for _ in chain.from_iterable(repeat(data.train_dataloader())):
            pass
    data.prepare_data()
    data.setup("fit")
    assert tokens_of(data.store) == right


@pytest.fixture
def japanese(tmp_path: Path) -> Path:
    """A corpus whose training text lacks characters of validation and test text."""
    train = "".join(f"word {number} of m² text\n" for number in range(40))
    texts = {"train": train, "valid": "m² text\nword\u00a0日\n", "test": "ＡＢ\n"}
    files = {f"{split}.{language}": text for split, text in texts.items() for language in ("en", "ja")}
    return write_folder(tmp_path / "japanese", dict(files))


def test_the_summary_measures_what_validation_and_test_can_show(japanese: Path) -> None:
    settings = {"target": "ja", "vocab_size": 40}
    data = set_up(japanese, **settings)
    summary = data.summary
    assert "1 of 2 references" in summary
    assert "(日 2)" in summary
    assert "test: 1 pair, 0 with an empty side; 0 of 1 references" in summary
    assert "(Ａ 2, Ｂ 2)" in summary
    assert any("1 of 1 test references" in warning for warning in data.warnings)
    (japanese / "test.ja").unlink()
    assert "test references" not in set_up(japanese, **settings).summary


TWO_SCRIPTS = {"source": "αβγ αβ γ αγ\n", "target": "xyz xy z yx\n"}


@pytest.fixture
def two_scripts(tmp_path: Path) -> Path:
    """A corpus whose sides share no letter."""
    files = {f"{split}.{side}": text * 9 for split in ("train", "valid") for side, text in TWO_SCRIPTS.items()}
    return write_folder(tmp_path / "two_scripts", dict(files))


def test_each_side_has_its_vocabulary(two_scripts: Path) -> None:
    """From the text to the batches, and back in the description of a step."""
    data = set_up(two_scripts, source="source", target="target", vocab_size=11, source_vocab_size=10)
    texts = {"source": TWO_SCRIPTS["source"].strip(), "target": TWO_SCRIPTS["target"].strip()}
    for side, tokenizer, size in zip(texts, data.vocabularies, (10, 11), strict=True):
        assert tokenizer.vocab_size == size
        letters = "".join(tokenizer.decode([[token_id] for token_id in range(EOS_ID + 1, size)]))
        assert set(letters) - {" "} == set(texts[side]) - {" "}
    assert data.tokens.report.num_source_unknown == data.tokens.report.num_target_unknown == 0
    assert data.describe_step(0).endswith(f"the first: {texts['source']} / {texts['target']}")
    batch = next(iter(data.train_dataloader()))
    assert data.vocabularies.source.decode(batch.source_BS.tolist())[0] == texts["source"]
    assert data.vocabularies.target.decode(batch.target_output_BT.tolist())[0] == texts["target"]
    assert data.coverage[0].warning is None
    with pytest.raises(UserError, match=r"vocabularies\.source"):
        _ = data.tokenizer


def test_one_of_two_vocabularies_can_be_a_file(two_scripts: Path, tmp_path: Path) -> None:
    names = {"source": "source", "target": "target"}
    learned = set_up(two_scripts, **names, vocab_size=11, source_vocab_size=10).vocabularies
    for side, file in zip(("source_tokenizer", "tokenizer"), ("source.model", "target.model"), strict=True):
        (tmp_path / file).write_bytes(learned[side == "tokenizer"].model_bytes)
        settings = {**names, "vocab_size": 11, "source_vocab_size": 10, side: str(tmp_path / file)}
        found = set_up(two_scripts, **settings).vocabularies
        assert [each.model_bytes for each in found] == [each.model_bytes for each in learned]
        other, size = (12, 11) if side == "tokenizer" else (12, 10)
        name = side.replace("tokenizer", "vocab_size")
        with pytest.raises(UserError, match=rf"^{name} is {other}, but {side} .*{file} .* give {name} {size}$"):
            set_up(two_scripts, **{**settings, name: other})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source_vocab_size": 90}, r"^source_vocab_size is 90\b.* more than the text can give"),
        ({"source_vocab_size": 10, "vocab_size": 90}, r"^vocab_size is 90\b.* more than the text can give"),
        ({"source_tokenizer": "x.model"}, r"cannot read .*x\.model"),
        ({"source_tokenizer": "x.model", "source_vocab_size": 10}, r"cannot read .*x\.model"),
    ],
)
def test_mistakes_with_two_vocabularies(two_scripts: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        set_up(two_scripts, source="source", target="target", **({"vocab_size": 11} | settings))


def test_a_mistake_in_the_test_set_is_reported_before_training(japanese: Path) -> None:
    (japanese / "test.ja").write_text("a\nb\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"test\.en has 1 .*test\.ja has 2"):
        set_up(japanese, target="ja", vocab_size=40)


def test_held_out_pairs_are_never_trained_on(tmp_path: Path) -> None:
    """Neither the model nor the vocabulary sees them, and the summary says how many there are."""
    folder = write_folder(
        tmp_path / "text",
        {
            "train.en": "".join(f"number {chr(0x4E00 + row)}\n" for row in range(NUM_SENTENCES)),
            "train.de": "".join(f"Zahl {row % 10}\n" for row in range(NUM_SENTENCES)),
        },
    )
    data = set_up(folder / "train", valid_pairs=5, vocab_size=90)
    assert "5 training pairs" in data.summary.splitlines()[0]
    [validated] = {len(data.splits.valid.load()), len(data.validation_pairs(99))}
    assert validated == 5
    trained = [
        row for rows in (data.assembler().batch(np.arange(NUM_SENTENCES - 5)).source_BS,) for row in rows.tolist()
    ]
    sources = set(data.tokenizer.decode([[token for token in row if token > EOS_ID] for row in trained]))
    held_out = {source for source, _ in data.validation_pairs(5)}
    assert len(sources) == NUM_SENTENCES - 5
    assert not sources & held_out
    assert all(UNK_ID in ids for ids in data.tokenizer.encode(sorted(held_out)))
    assert all(UNK_ID not in ids for ids in data.tokenizer.encode(sorted(sources)))
