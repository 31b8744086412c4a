"""Which checkpoint is the best: BLEU says it from 1 up, below the validation loss does."""

import contextlib
import io
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import pytest
import torch

from lit_transformer.runs import saving
from lit_transformer.runs.saving import Checkpoints
from lit_transformer.training.selection import selection_score
from lit_transformer.training.translation import LitTransformer
from tests.helpers.runs import fit

# BLEU and loss of a run on 200 Japanese sentences, scored with 13a: noise beat what was learnt.
EARLY, LATE = {"bleu": 0.20, "loss": 5.44}, {"bleu": 0.03, "loss": 4.91}


def test_below_a_bleu_of_one_the_loss_decides() -> None:
    assert selection_score(**EARLY) < selection_score(**LATE) < 1.0
    assert selection_score(bleu=0.0, loss=9.0) < selection_score(bleu=0.9, loss=8.9)


def test_from_a_bleu_of_one_bleu_decides() -> None:
    assert (
        selection_score(bleu=0.99, loss=0.01) < selection_score(bleu=1.0, loss=8.0) < selection_score(bleu=1.1, loss=9)
    )


def test_a_loss_that_is_no_number_is_never_best() -> None:
    assert not selection_score(bleu=0.0, loss=math.nan) > -math.inf


class Best:
    """What the callback takes for the best, validation by validation."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.callback = Checkpoints()
        self.folder = folder / "checkpoints"
        self.folder.mkdir()
        monkeypatch.setattr(saving, "run_folder", lambda trainer: folder)
        monkeypatch.setattr(saving, "write", lambda trainer, path: path.touch())

    def validate(self, step: int, *, bleu: float, loss: float) -> None:
        metrics = {"bleu": bleu, "loss": loss, "selection": selection_score(bleu=bleu, loss=loss)}
        trainer = SimpleNamespace(
            state=SimpleNamespace(fn="fit"),
            sanity_checking=False,
            is_global_zero=True,
            global_step=step,
            callback_metrics={f"val/{name}": torch.tensor(value) for name, value in metrics.items()},
        )
        self.callback.on_validation_end(cast(L.Trainer, trainer), cast(L.LightningModule, None))

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


def test_noise_does_not_beat_a_better_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = Best(tmp_path, monkeypatch)
    best.validate(50, **EARLY)
    best.validate(100, **LATE)
    assert best.names() == ["best-step-00000100.ckpt"]
    assert best.callback.best_bleu == pytest.approx(0.03)
    best.validate(150, bleu=0.03, loss=4.91)  # a tie
    best.validate(200, bleu=0.5, loss=5.0)
    assert best.callback.best_step == 100
    best.validate(250, bleu=1.5, loss=5.0)
    best.validate(300, bleu=1.4, loss=4.0)
    assert best.names() == ["best-step-00000250.ckpt"]


@pytest.mark.parametrize(("best_bleu", "is_kept"), [(30.0, True), (0.2, False), (-math.inf, False)])
def test_the_best_of_an_older_version_is_taken_over(
    best_bleu: float, is_kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = Best(tmp_path, monkeypatch)
    (best.folder / "best-step-00000050.ckpt").touch()
    state: dict[str, Any] = {"best_bleu": best_bleu, "best_step": 50}
    content = {"callbacks": {best.callback.state_key: state}}
    best.callback.on_load_checkpoint(cast(L.Trainer, None), cast(L.LightningModule, None), content)
    best.callback.load_state_dict(state)
    assert best.callback.best_bleu == best_bleu
    best.validate(100, bleu=0.1, loss=5.0)
    assert best.names() == [f"best-step-{50 if is_kept else 100:08}.ckpt"]


def japanese(folder: Path, num_pairs: int) -> Path:
    """Sentences of a little grammar, and validation with what was trained on."""
    folder.mkdir()
    nouns = {
        "the cat": "猫",
        "the dog": "犬",
        "the child": "子供",
        "the teacher": "先生",
        "a bird": "鳥",
        "a friend": "友達",
    }
    verbs = {
        "sees": "見ます",
        "looks for": "探します",
        "waits for": "待ちます",
        "helps": "手伝います",
        "draws": "描きます",
    }
    times = {"today": "今日", "tomorrow": "明日", "every day": "毎日", "now": "今"}
    generator = random.Random(1)
    pairs = []
    for _ in range(num_pairs):
        (who, subject), (whom, object_) = generator.sample(sorted(nouns.items()), 2)
        (does, verb), (when, time) = (generator.choice(sorted(words.items())) for words in (verbs, times))
        pairs.append((f"{who} {does} {whom} {when}.", f"{time}、{subject}は{object_}を{verb}。"))
    for split in ("train", "valid"):
        for side, language in enumerate(("en", "ja")):
            text = "".join(f"{pair[side]}\n" for pair in pairs[: 200 if split == "train" else 20])
            (folder / f"{split}.{language}").write_text(text, encoding="utf-8")
    return folder


def test_a_run_on_japanese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    settings = {
        "data__target": "ja",
        "model__vocab_size": 130,
        "model__transformer__d_model": 32,
        "trainer__max_steps": 60,
        "trainer__val_check_interval": 20,
        "checkpoints__every_n_steps": 60,
    }
    with contextlib.redirect_stderr(io.StringIO()) as notes:
        run = fit(japanese(tmp_path / "corpus", 200), tmp_path / "runs", **settings)
    assert "validation BLEU is counted in characters: tokenize ja-mecab needs the extra japanese" in notes.getvalue()
    assert "BLEU (char)" in run.output
    assert "20 of 20 validation references (100.0%) can be written exactly; 0 unknown characters" in run.output
    assert "--split test\n" in run.output, "--tokenize is named where it was set by hand"
    bleu, loss, selection = (run.curve(f"val/{name}") for name in ("bleu", "loss", "selection"))
    for step, value in selection.items():
        assert value == pytest.approx(selection_score(bleu=bleu[step], loss=loss[step]), rel=1e-5)
    best = max(selection, key=lambda step: (selection[step], -step))
    assert f"best-step-{best:08}.ckpt" in run.names()


@pytest.mark.parametrize(("chosen", "used"), [(None, "zh"), ("intl", "intl"), ("none", "none")])
def test_validation_is_scored_for_the_target_language(chosen: Any, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LitTransformer, "text", SimpleNamespace(target="zh_Hans"))
    module = LitTransformer(vocab_size=11, bleu_tokenize=chosen)
    module.setup("fit")
    assert module.val_bleu.tokenize == used
