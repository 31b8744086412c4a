"""Module and datamodule with a plain `L.Trainer`, as people use them who know Lightning."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from lit_transformer import LitTransformer, TransformerConfig, TranslationData, Translator
from lit_transformer.checkpoints.format import vocabulary_entries
from lit_transformer.data.following import Followed
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.evaluation.bleu import score_translations
from tests.helpers.corpora import make_corpus, write_folder
from tests.helpers.plain import quiet_trainer, tiny_data
from tests.helpers.tiny import write_tiny_corpus

VOCAB_SIZE = 40
CONFIG = TransformerConfig(d_model=16, d_ff=16, num_heads=2, num_layers=1, positions="learned", max_positions=30)
CONFIG_WITHOUT_DROPOUT = replace(CONFIG, dropout=0.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "corpus"
    write_tiny_corpus(folder)
    return folder


def plain_data(corpus: Path, **settings: Any) -> TranslationData:
    return tiny_data(corpus, **({"validation_batch_tokens": 60} | settings))


def tiny_trainer(folder: Path, **settings: Any) -> L.Trainer:
    return quiet_trainer(default_root_dir=folder, log_every_n_steps=1, **settings)


def loader_of(batches: list[Any]) -> "DataLoader[Any]":
    return DataLoader(cast(Any, batches), batch_size=None)


def other_vocabulary() -> bytes:
    """Another vocabulary of the same size."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + VOCAB_SIZE - 6)))
    return Tokenizer.train([" ".join(text)] * 9, vocab_size=VOCAB_SIZE, character_coverage=1.0).model_bytes


class Trained(NamedTuple):
    model: LitTransformer
    data: TranslationData
    trainer: L.Trainer


@pytest.fixture(scope="module")
def trained(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A model after an epoch."""
    L.seed_everything(1)
    model, data = LitTransformer(CONFIG, VOCAB_SIZE, warmup_steps=10), plain_data(corpus)
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
    data = plain_data(make_corpus(tmp_path / "corpus"))
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


def test_hyper_parameters_are_plain_data(trained: Trained) -> None:
    hparams = trained.model.hparams
    assert TransformerConfig(**hparams["transformer"]) == CONFIG
    assert (hparams["vocab_size"], hparams["warmup_steps"]) == (VOCAB_SIZE, 10)
    model = LitTransformer(CONFIG, VOCAB_SIZE, optimizer=torch.optim.AdamW, schedule="constant")
    assert model.hparams["schedule"] == "constant"
    assert "optimizer" not in model.hparams


def checkpoint_of(trained: Trained) -> str:
    callback = trained.trainer.checkpoint_callback
    assert isinstance(callback, ModelCheckpoint)
    return callback.best_model_path


def test_a_checkpoint_gives_model_and_data(trained: Trained, tmp_path: Path) -> None:
    path = checkpoint_of(trained)
    model = LitTransformer.load_from_checkpoint(path, label_smoothing=0.3, dropout=0.25)
    assert model.hparams == {
        **trained.model.hparams,
        "label_smoothing": 0.3,
        "transformer": {**trained.model.hparams["transformer"], "dropout": 0.25},
    }
    assert model.label_smoothing == 0.3
    assert model.transformer.config.dropout == 0.25
    weights = trained.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    data = TranslationData.load_from_checkpoint(path, tokens_per_batch=90)
    assert data.hparams == {**trained.data.hparams, "tokens_per_batch": 90}
    tiny_trainer(tmp_path, max_steps=1).fit(model, data)
    assert Translator.load(path).translate(["The cat sleeps."]) == Translator(
        trained.model.transformer, trained.data.vocabularies
    ).translate(["The cat sleeps."])
    with pytest.raises(UserError, match="drop_out"):
        LitTransformer.load_from_checkpoint(path, drop_out=0.1)


def to_format_1(content: dict[str, Any]) -> None:
    """Rename the weights of a post-norm model as format 1 named them."""
    old_names = {".layers.": ".", "encoder.positions.": "source_positions.", "decoder.positions.": "target_positions."}
    for name in list(content["state_dict"]):
        renamed = name
        for new, old in old_names.items():
            renamed = renamed.replace(new, old)
        content["state_dict"][renamed] = content["state_dict"].pop(name)
    content["lit_transformer"]["format"] = 1


@pytest.mark.parametrize("written_format", [1, 2])
def test_checkpoints_of_earlier_versions(trained: Trained, written_format: int, tmp_path: Path) -> None:
    """They have no hyper-parameters. A run folder stands for its best checkpoint."""
    content = torch.load(checkpoint_of(trained), weights_only=True)
    del content["hyper_parameters"], content["datamodule_hyper_parameters"]
    if written_format == 1:
        to_format_1(content)
    path = tmp_path / "run" / "checkpoints" / "step-00000009.ckpt"
    path.parent.mkdir(parents=True)
    torch.save(content, path)
    model = LitTransformer.load_from_checkpoint(tmp_path / "run", warmup_steps=7)
    assert model.hparams["transformer"] == trained.model.hparams["transformer"]
    assert model.hparams["warmup_steps"] == 7
    weights = trained.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert model.vocabularies is not None
    assert vocabulary_entries(model.vocabularies) == vocabulary_entries(trained.data.vocabularies)
    with pytest.raises(UserError, match=rf"{path.name}.*config\.yaml"):
        TranslationData.load_from_checkpoint(path)


def test_a_loaded_model_keeps_its_vocabulary(trained: Trained, tmp_path: Path) -> None:
    """Also on another corpus, for which another one would be learned."""
    names = [f"{split}.{language}" for split in ("train", "valid", "test") for language in ("en", "de")]
    corpus = write_folder(tmp_path / "other", dict.fromkeys(names, "a cat eats\n" * 9))
    model, data = LitTransformer.load_from_checkpoint(checkpoint_of(trained)), plain_data(corpus)
    tiny_trainer(tmp_path, max_steps=1).fit(model, data)
    assert data.vocabularies == model.vocabularies
    assert vocabulary_entries(data.vocabularies) == vocabulary_entries(trained.data.vocabularies)
    (tmp_path / "own.model").write_bytes(other_vocabulary())
    with pytest.raises(UserError, match="another vocabulary"):
        tiny_trainer(tmp_path, max_steps=1).fit(model, plain_data(corpus, tokenizer=str(tmp_path / "own.model")))


def test_a_batch_can_be_read(trained: Trained) -> None:
    batch = next(iter(trained.data.train_dataloader()))
    assert " x ".join(map(str, batch.source_BS.shape)) in repr(batch)
    assert len(repr(batch).splitlines()) == 1
    [text, *_] = trained.data.vocabularies.target.decode(batch.target_output_BT.tolist())
    assert text in trained.data.splits.train.load()["target"]


def test_the_data_follow_the_model(corpus: Path, tmp_path: Path) -> None:
    """Each trainer's, unless a value is given."""
    data = plain_data(corpus)
    for vocab_size, source_vocab_size in ((VOCAB_SIZE, None), (37, 31)):
        model = LitTransformer(CONFIG, vocab_size, source_vocab_size, seed=5)
        tiny_trainer(tmp_path, max_steps=1).fit(model, data)
        assert data.followed == Followed(vocab_size, source_vocab_size, max_positions=30, seed=5)
        assert data.vocabularies.target.vocab_size == vocab_size
        assert data.vocabularies.source_vocab_size == source_vocab_size
    given = plain_data(corpus, vocab_size=38, seed=7)
    with pytest.raises(UserError, match=r"\b38\b.*\b40\b"):
        tiny_trainer(tmp_path, max_steps=1).fit(LitTransformer(CONFIG, VOCAB_SIZE), given)
    assert given.followed.seed == 7


def test_without_a_trainer_the_vocabulary_is_the_papers() -> None:
    assert TranslationData("demo").followed.vocab_size == LitTransformer.__init__.__defaults__[1] == 37000  # type: ignore[index]
