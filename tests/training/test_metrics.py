"""How validation is measured, and by what the best checkpoint is chosen."""

import contextlib
import io
import json
import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchmetrics import MetricCollection
from torchmetrics.text import CHRFScore

from lit_transformer import test as test_command
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.evaluation import metrics
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.loss import LossSums
from lit_transformer.training.metrics import loss_metrics, selection_score
from lit_transformer.training.translation import LitTransformer
from tests.helpers.corpora import make_corpus
from tests.helpers.runs import SHORT, fit


def test_losses_are_means_over_tokens() -> None:
    losses = loss_metrics()
    for smoothed, nll, num_tokens in ((6.0, 3.0, 3), (20.0, 10.0, 5)):
        losses.update(LossSums(smoothed=torch.tensor(smoothed), nll=torch.tensor(nll)), num_tokens)
    assert {name: float(value) for name, value in losses.compute().items()} == {
        "val/loss": pytest.approx(26 / 8),
        "val/perplexity": pytest.approx(math.exp(13 / 8)),
    }


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


def test_a_metric_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It appears in what validation prints, in TensorBoard, and in the output of `test`."""

    def with_chrf(metrics: dict[str, Any], **options: Any) -> MetricCollection:
        return MetricCollection(metrics | {"chrfpp": CHRFScore(n_word_order=2)}, **options)

    monkeypatch.setattr(metrics, "MetricCollection", with_chrf)
    corpus = make_corpus(tmp_path / "corpus")
    run = fit(corpus, tmp_path / "runs", **SHORT)
    drawn = run.curve("val/chrfpp")
    assert f"chrfpp {drawn[4]:.2f}" in run.output
    options = ["--checkpoint", str(run.folder), "--corpus", str(corpus), "--split", "valid", "--beam_size", "1"]
    for further in ([], ["--json"]):
        test_command.main([*options, *further, "--output", str(tmp_path / f"{len(further)}.de")])
    printed, scores = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert json.loads(scores)["chrfpp"] == pytest.approx(drawn[4], rel=1e-3)
    assert f"chrfpp {drawn[4]:.2f}" in printed


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
        "checkpoints__every_n_train_steps": 60,
    }
    with contextlib.redirect_stderr(io.StringIO()) as notes:
        run = fit(japanese(tmp_path / "corpus", 200), tmp_path / "runs", **settings)
    assert "validation BLEU is counted in characters: tokenize ja-mecab needs the extra japanese" in notes.getvalue()
    assert "BLEU (char)" in run.output
    assert "20 of 20 references (100.0%) can be written exactly; 0 unknown characters" in run.output
    assert "--tokenize" not in run.output, "it is named where it was set by hand"
    bleu, loss, selection = (run.curve(f"val/{name}") for name in ("bleu", "loss", "selection"))
    for step, value in selection.items():
        assert value == pytest.approx(selection_score(bleu=bleu[step], loss=loss[step]), rel=1e-5)
    best = max(selection, key=lambda step: (selection[step], -step))
    assert f"best-step-{best:08}.ckpt" in run.names()


@pytest.mark.parametrize(("chosen", "used"), [(None, "zh"), ("intl", "intl"), ("none", "none")])
def test_validation_is_scored_for_the_target_language(chosen: Any, used: str) -> None:
    module = LitTransformer(TransformerConfig(d_model=8, num_heads=2), vocab_size=11, bleu_tokenize=chosen)
    data = SimpleNamespace(source="en", target="zh_Hans", vocabularies=vocabularies_of(11, None))
    module.trainer = SimpleNamespace(datamodule=data, checkpoint_callback=None)  # type: ignore[assignment]
    module.setup("fit")
    assert module.val_scores["bleu"].tokenize == used


def vocabularies_of(vocab_size: int, source_vocab_size: int | None) -> Vocabularies:
    target: Any = SimpleNamespace(vocab_size=vocab_size, model_bytes=b"target")
    source: Any = target
    if source_vocab_size is not None:
        source = SimpleNamespace(vocab_size=source_vocab_size, model_bytes=b"source", has_tokens_of=lambda other: False)
    return Vocabularies(source, target)


@pytest.mark.parametrize(
    ("of_model", "of_data"), [((11, None), (13, None)), ((11, 13), (11, None)), ((11, 7), (11, 13))]
)
def test_model_and_data_have_the_same_vocabularies(
    of_model: tuple[int, int | None], of_data: tuple[int, int | None]
) -> None:
    """Otherwise nothing could read the checkpoints of the run."""
    config = TransformerConfig(d_model=8, num_heads=2, num_layers=1)
    module = LitTransformer(config, vocab_size=of_model[0], source_vocab_size=of_model[1], bleu_tokenize="none")
    data = SimpleNamespace(source="en", target="de", vocabularies=vocabularies_of(*of_data))
    module.trainer = SimpleNamespace(datamodule=data, checkpoint_callback=None)  # type: ignore[assignment]
    with pytest.raises(UserError, match=rf"vocab_size {of_data[0]}\b.*model has {of_model[0]}\b"):
        module.setup("fit")
