"""BERT, BART and T5 restore hidden tokens: the loss, the accuracy, and training on text of one language."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lit_transformer.batch import EOS_ID, PAD_ID, RestoredBatch, make_batch, make_token_batch
from lit_transformer.checkpoints.descendants import load_descendant
from lit_transformer.data.text_data import TextData
from lit_transformer.data.text_rows import held_out_batch
from lit_transformer.errors import UserError
from lit_transformer.evaluation.kneser_ney import KneserNey
from lit_transformer.evaluation.trigram import Trigram
from lit_transformer.model.config import TransformerConfig
from lit_transformer.runs.baselines import KneserNeyBaseline, TrigramBaseline
from lit_transformer.training.bert import LitBERT
from lit_transformer.training.denoising import LitBART, LitT5
from lit_transformer.training.descendant import LitDescendant
from lit_transformer.training.gpt import LitGPT
from tests.helpers.corpora import make_corpus, write_folder

TINY = TransformerConfig(d_model=16, d_ff=32, num_heads=2, num_layers=1, dropout=0.0)
VOCAB_SIZE = 151
RESTORERS = [LitBERT, LitBART, LitT5]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = make_corpus(tmp_path / "corpus")
    return write_folder(folder, {"test.en": "".join((folder / "train.en").read_text().splitlines(keepends=True)[:20])})


def data_of(corpus: Path) -> TextData:
    return TextData(
        str(corpus),
        character_coverage=1.0,
        tokens_per_batch=300,
        max_tokens_per_device=300,
        block_length=32,
        cache_dir=str(corpus.parent / "cache"),
    )


def trainer_of(folder: Path, **settings: Any) -> L.Trainer:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    every: dict[str, Any] = {
        "accelerator": "cpu",
        "enable_checkpointing": False,
        "max_steps": 3,
        "val_check_interval": 3,
    }
    return L.Trainer(default_root_dir=folder, **(quiet | every | settings))


def test_the_loss_of_bert_is_that_of_the_predicted_positions() -> None:
    module = LitBERT(TINY, vocab_size=19).eval()
    batch = make_token_batch(np.array([[2, 4, 7, 3], [2, 4, 3, 0]]), np.array([[0, 5, 0, 0], [0, 6, 0, 0]]))
    logits = module(batch.input_BL)
    expected = F.cross_entropy(logits[:, 1], torch.tensor([5, 6]), reduction="sum")
    sums = module.loss_sums(batch)
    torch.testing.assert_close(sums.smoothed, expected)
    torch.testing.assert_close(sums.nll, expected.detach())


@pytest.mark.parametrize("kind", RESTORERS)
def test_accuracy_counts_restored_positions_alone(kind: type[LitBERT]) -> None:
    module = kind(TINY, vocab_size=19).eval()
    make = make_token_batch if kind is LitBERT else make_batch
    batch = make(np.array([[2, 4, 7, 3]]), np.array([[5, 6, 7, 3]]))
    with torch.no_grad():
        guesses = module(*batch[: 1 if kind is LitBERT else 2]).argmax(dim=-1)
    output = torch.where(torch.tensor([[True, False, True, True]]), guesses, (guesses + 1) % 19)
    name = "output_BL" if kind is LitBERT else "target_output_BT"
    batch = type(batch)(**(batch._asdict() | {name: output}))
    for places, expected in (([1, 1, 0, 0], 0.5), ([1, 0, 1, 0], 1.0), ([0, 1, 0, 0], 0.0)):
        restored = RestoredBatch(batch, torch.tensor([places], dtype=torch.bool))
        assert module.are_restored(restored).float().mean() == expected
        module.val_scores.reset()
        module.validation_step(restored, 0)
        assert module.val_scores["accuracy"].compute() == expected


@pytest.mark.parametrize("kind", [LitGPT, *RESTORERS])
def test_training_and_its_checkpoint(kind: Callable[..., LitDescendant], corpus: Path, tmp_path: Path) -> None:
    module, data = kind(TINY, vocab_size=VOCAB_SIZE), data_of(corpus)
    trainer = trainer_of(tmp_path)
    trainer.fit(module, data)
    values = trainer.callback_metrics
    assert set(values) >= {"val/loss", "val/perplexity", "val/selection"}
    assert ("val/accuracy" in values) == (kind is not LitGPT)
    path = tmp_path / "model.ckpt"
    trainer.save_checkpoint(path)
    trained = load_descendant(path)
    assert trained.name == module.kind
    assert trained.tokenizer is not None
    assert trained.tokenizer.vocab_size == VOCAB_SIZE
    assert (trained.special.mask is not None) == (kind in (LitBERT, LitBART))
    for name, weight in trained.model.state_dict().items():
        assert torch.equal(weight, module.transformer.state_dict()[name])
    [tested] = trainer.test(module, data, verbose=False)
    assert "test/perplexity" in tested
    assert ("test/accuracy" in tested) == (kind is not LitGPT)


@pytest.mark.parametrize("kind", RESTORERS)
def test_the_data_follow_the_share_of_the_module(kind: type[LitBERT], corpus: Path, tmp_path: Path) -> None:
    hidden = []
    for share in (0.1, 0.5):
        data = data_of(corpus)
        trainer_of(tmp_path, max_steps=1).fit(kind(TINY, VOCAB_SIZE, share), data)
        hidden.append(sum(int(batch.restored.sum()) for batch in data.val_dataloader()))
    assert hidden[1] > 3 * hidden[0]


@pytest.mark.parametrize("kind", RESTORERS)
def test_a_resumed_run_ends_with_the_same_weights(kind: type[LitBERT], corpus: Path, tmp_path: Path) -> None:
    config = replace(TINY, dropout=0.1)
    whole, begun, resumed = (kind(config, vocab_size=VOCAB_SIZE, learning_rate=0.01) for _ in range(3))
    for module in (begun, resumed):
        module.load_state_dict(whole.state_dict())
    trainer_of(tmp_path, max_steps=9).fit(whole, data_of(corpus))
    first = trainer_of(tmp_path, max_steps=5)
    first.fit(begun, data_of(corpus))
    first.save_checkpoint(tmp_path / "5.ckpt")
    again = trainer_of(tmp_path, max_steps=9)
    again.fit(resumed, data_of(corpus), ckpt_path=tmp_path / "5.ckpt")
    for name, weight in resumed.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name])


def test_the_baseline_of_a_gpt_predicts_the_same_tokens(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, data = LitGPT(TINY, vocab_size=VOCAB_SIZE), data_of(corpus)
    trainer_of(tmp_path, callbacks=[KneserNeyBaseline()]).fit(module, data)
    printed = capsys.readouterr().out
    lines = [line for line in (corpus / "test.en").read_text().splitlines() if line]
    ids = [[*each, EOS_ID] for each in data.tokenizer.encode(lines)]
    training = [[*each, EOS_ID] for each in data.tokenizer.encode((corpus / "train.en").read_text().splitlines())]
    perplexity = np.exp(-KneserNey(training, vocab_size=VOCAB_SIZE).log_probabilities(ids).mean())
    assert f"{perplexity:.2f} " in printed
    assert f"({sum(map(len, ids)):,} tokens, {sum(len(line.split()) + 1 for line in lines):,} words)" in printed


@pytest.mark.parametrize("kind", RESTORERS)
def test_the_baseline_of_a_restorer_restores_the_same_tokens(
    kind: type[LitBERT], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module, data = kind(TINY, vocab_size=VOCAB_SIZE), data_of(corpus)
    trainer = trainer_of(tmp_path, callbacks=[TrigramBaseline()])
    trainer.fit(module, data)
    printed = capsys.readouterr().out
    [tested] = trainer.test(module, data, verbose=False)
    assert f"test accuracy {tested['test/accuracy']:.1%} " in printed
    assert f"({sum(int(each.hidden.sum()) for each in data.test_examples):,} tokens)" in printed
    trigram = Trigram(data.training_sentences)
    right = total = 0
    for row, example in zip(data.test_rows, data.test_examples, strict=True):
        guesses = trigram.fill(row.tolist(), example.hidden.tolist(), left_is_known=kind is not LitBERT)
        right += int((np.array(guesses) == row[example.hidden]).sum())
        total += len(guesses)
    assert f"{right / total:.1%} by a trigram" in printed


@pytest.mark.parametrize("kind", RESTORERS)
def test_a_rank_without_rows_reports_the_same_values(kind: type[LitBERT]) -> None:
    """Or it would wait for the others in another place than they for it."""
    module = kind(TINY, vocab_size=19).eval()
    module.validation_step(held_out_batch([], module.objective), 0)
    assert "val/accuracy" in {name for name, score in module.val_scores.items() if score.update_called}


def test_batches_without_places_are_refused() -> None:
    batch = make_token_batch(np.array([[2, 4]]), np.array([[PAD_ID, 5]]))
    with pytest.raises(UserError, match="RestoredBatch"):
        LitBERT(TINY, vocab_size=19).validation_step(batch, 0)  # type: ignore[arg-type]


def test_without_a_test_set_there_is_no_figure(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus / "test.en").unlink()
    trainer_of(tmp_path, max_steps=1, callbacks=[TrigramBaseline(), KneserNeyBaseline()]).fit(
        LitBERT(TINY, vocab_size=VOCAB_SIZE), data_of(corpus)
    )
    assert capsys.readouterr().err.count("no split test") == 2
