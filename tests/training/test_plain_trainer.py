"""Module and datamodule with a plain `L.Trainer`, as people use them who know Lightning."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from lit_transformer import LitTransformer, TransformerConfig, TranslationData, Translator
from lit_transformer.data.following import Followed
from lit_transformer.errors import UserError
from lit_transformer.evaluation.bleu import score_translations
from tests.helpers.corpora import make_corpus
from tests.helpers.tiny import write_tiny_corpus

VOCAB_SIZE = 40
CONFIG = TransformerConfig(d_model=16, d_ff=16, num_heads=2, num_layers=1, positions="learned", max_positions=30)
CONFIG_WITHOUT_DROPOUT = replace(CONFIG, dropout=0.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "corpus"
    write_tiny_corpus(folder)
    return folder


def tiny_data(corpus: Path, **settings: Any) -> TranslationData:
    defaults: dict[str, Any] = {
        "character_coverage": 1.0,
        "tokens_per_batch": 100,
        "validation_batch_tokens": 60,
        "cache_dir": str(corpus.parent / "cache"),
    }
    return TranslationData(str(corpus), **(defaults | settings))


def tiny_trainer(folder: Path, **settings: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )


def loader_of(batches: list[Any]) -> "DataLoader[Any]":
    return DataLoader(cast(Any, batches), batch_size=None)


class Trained(NamedTuple):
    model: LitTransformer
    data: TranslationData
    trainer: L.Trainer


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model after an epoch."""
    L.seed_everything(1)
    model, data = LitTransformer(CONFIG, VOCAB_SIZE, warmup_steps=10), tiny_data(corpus)
    trainer = tiny_trainer(tmp_path_factory.mktemp("run"), max_epochs=1)
    trainer.fit(model, data)
    return Trained(model, data, trainer)


def test_an_epoch_ends_and_is_validated(trained: Trained) -> None:
    assert trained.trainer.global_step == trained.data.plan.num_batches > 1
    assert {"train/loss", "val/loss", "val/bleu", "val/selection"} <= trained.trainer.callback_metrics.keys()


def test_validate_and_test_return_scores(trained: Trained, tmp_path: Path) -> None:
    model, data, _ = trained
    [validated] = tiny_trainer(tmp_path).validate(model, data, verbose=False)
    assert validated.keys() == {"val/loss", "val/perplexity", "val/bleu", "val/selection"}
    [tested] = tiny_trainer(tmp_path).test(model, data, verbose=False)
    assert tested.keys() == {"test/loss", "test/perplexity", "test/bleu", "test/chrf"}
    pairs = data.splits.test.load() if data.splits.test else {}
    translations = Translator(model.transformer, data.vocabularies).translate(pairs["source"][:])
    scores = score_translations(translations, pairs["target"][:])
    assert tested["test/bleu"] == pytest.approx(scores.bleu, rel=1e-6)
    assert tested["test/chrf"] == pytest.approx(scores.chrf, rel=1e-6)
    # The splits of this corpus are the same.
    assert tested["test/loss"] == pytest.approx(validated["val/loss"], rel=1e-5)


def test_predict_translates_the_test_set_in_its_order(trained: Trained, tmp_path: Path) -> None:
    model, data, _ = trained
    predicted = tiny_trainer(tmp_path).predict(model, data)
    assert predicted is not None
    assert len(predicted) > 1
    sources = data.splits.test.load()["source"][:] if data.splits.test else []
    expected = Translator(model.transformer, data.vocabularies).translate(sources)
    assert [text for batch in predicted for text in batch] == expected
    pairs = [(source, "") for source in sources]
    for batch in (sources, trained.data.vocabularies.batch(pairs)):
        assert tiny_trainer(tmp_path).predict(model, loader_of([batch])) == [expected]


def test_a_corpus_without_a_test_set(tmp_path: Path) -> None:
    data = tiny_data(make_corpus(tmp_path / "corpus"))
    for command in ("test", "predict"):
        with pytest.raises(UserError, match=r"corpus .* test"):
            getattr(tiny_trainer(tmp_path), command)(LitTransformer(CONFIG, 100), data)


def test_any_loader_of_batches(trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its batches belong to no plan: each is averaged over its own tokens, also if several make a step."""
    pairs = [("The cat sleeps.", "Die Katze schläft."), ("A dog eats.", "Ein Hund frisst.")] * 4
    batches = list(DataLoader(cast(Any, pairs), batch_size=2, collate_fn=trained.data.vocabularies.batch))
    finals = []
    for micro_batches, batch_list in ((1, batches[:2]), (2, batches)):
        model = LitTransformer(CONFIG_WITHOUT_DROPOUT, VOCAB_SIZE, warmup_steps=2)
        model.load_state_dict(trained.model.state_dict())
        trainer = tiny_trainer(tmp_path, max_epochs=1, accumulate_grad_batches=micro_batches)
        trainer.fit(model, loader_of(batch_list), loader_of(batch_list))
        assert trainer.global_step == 2
        assert "val/loss" in trainer.callback_metrics
        assert "val/bleu" not in trainer.callback_metrics
        finals.append(model.transformer.embedding.weight)
    # All batches are the same.
    torch.testing.assert_close(finals[0], finals[1], rtol=1e-4, atol=1e-6)
    assert "note: " in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`:UserWarning")
def test_a_loader_of_something_else(tmp_path: Path) -> None:
    for method in ("fit", "validate", "test", "predict"):
        trainer = tiny_trainer(tmp_path, max_steps=1)
        with pytest.raises(UserError, match=r"list.*make_batch"):
            getattr(trainer, method)(LitTransformer(CONFIG, VOCAB_SIZE), loader_of([[torch.zeros(2)]]))


def test_forward_gives_the_logits_of_teacher_forcing(trained: Trained) -> None:
    batch = trained.data.vocabularies.batch([("The cat sleeps.", "Ein Hund frisst.")])
    model = trained.model.eval()
    logits_BTV = model(batch.source_BS, batch.target_input_BT)
    assert logits_BTV.shape == (*batch.target_output_BT.shape, VOCAB_SIZE)
    torch.testing.assert_close(logits_BTV, model.transformer(batch.source_BS, batch.target_input_BT))


def test_a_batch_can_be_read(trained: Trained) -> None:
    batch = next(iter(trained.data.train_dataloader()))
    assert " x ".join(map(str, batch.source_BS.shape)) in repr(batch)
    assert len(repr(batch).splitlines()) == 1
    [text, *_] = trained.data.vocabularies.target.decode(batch.target_output_BT.tolist())
    assert text in trained.data.splits.train.load()["target"]


def test_the_data_follow_the_model(corpus: Path, tmp_path: Path) -> None:
    """Each trainer's, unless a value is given."""
    data = tiny_data(corpus)
    for vocab_size, source_vocab_size in ((VOCAB_SIZE, None), (37, 31)):
        model = LitTransformer(CONFIG, vocab_size, source_vocab_size, seed=5)
        tiny_trainer(tmp_path, max_steps=1).fit(model, data)
        assert data.followed == Followed(vocab_size, source_vocab_size, max_positions=30, seed=5)
        assert data.vocabularies.target.vocab_size == vocab_size
        assert data.vocabularies.source_vocab_size == source_vocab_size
    given = tiny_data(corpus, vocab_size=38, seed=7)
    with pytest.raises(UserError, match=r"\b38\b.*\b40\b"):
        tiny_trainer(tmp_path, max_steps=1).fit(LitTransformer(CONFIG, VOCAB_SIZE), given)
    assert given.followed.seed == 7


def test_without_a_trainer_the_vocabulary_is_the_papers() -> None:
    assert TranslationData("demo").followed.vocab_size == LitTransformer.__init__.__defaults__[1] == 37000  # type: ignore[index]
