"""What a run measures reaches the loggers, the bar and the callbacks of any trainer."""

import csv
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from lit_transformer import LitTransformer, TransformerConfig, TranslationData
from tests.helpers.plain import quiet_trainer, tiny_data
from tests.helpers.runs import events
from tests.helpers.tiny import write_tiny_corpus

VOCAB_SIZE = 40
CONFIG = TransformerConfig(d_model=16, d_ff=16, num_heads=2, num_layers=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> TranslationData:
    folder = tmp_path_factory.mktemp("meter") / "corpus"
    write_tiny_corpus(folder)
    return tiny_data(folder)


CURVES = {
    *("train/loss", "train/perplexity", "train/gradient_norm", "train/learning_rate", "train/padding_share"),
    *("train/source_tokens_per_second", "train/target_tokens_per_second", "train/data_wait_share"),
    *("val/loss", "val/perplexity", "val/bleu", "val/selection"),
}


def read_curves(folder: str | None) -> dict[str, dict[int, float]]:
    """The points of a `CSVLogger`."""
    curves: dict[str, dict[int, float]] = {}
    with Path(str(folder), "metrics.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name != "step":
                    curves.setdefault(name, {})[int(row["step"])] = float(value)
    return curves


def test_every_logger_the_bar_and_callbacks_have_the_curves(data: TranslationData, tmp_path: Path) -> None:
    """Under the optimizer step, also of validation, and the same values everywhere."""
    loggers = [CSVLogger(tmp_path, name="csv"), TensorBoardLogger(tmp_path, name="tensorboard")]
    best = ModelCheckpoint(tmp_path / "best", monitor="val/loss")
    trainer = quiet_trainer(
        default_root_dir=tmp_path,
        max_steps=7,
        log_every_n_steps=3,
        val_check_interval=2,
        check_val_every_n_epoch=None,
        logger=loggers,
        callbacks=[
            best,
            ModelCheckpoint(tmp_path / "train", monitor="train/loss"),
            EarlyStopping("train/loss"),
            EarlyStopping("val/bleu", mode="max", patience=9),
        ],
    )
    model = LitTransformer(CONFIG, VOCAB_SIZE)
    names = model.metric_names
    trainer.fit(model, data)
    curves = read_curves(loggers[0].log_dir)
    assert set(curves) == CURVES == set(names) - {"train/skipped_steps"}, "the last one is float16's"
    for name, curve in curves.items():
        assert list(curve) == ([3, 6] if name.startswith("train/") else [2, 4, 6]), name
        assert float(trainer.logged_metrics[name]) == pytest.approx(list(curve.values())[-1]), name
        assert name in trainer.callback_metrics
    drawn = events(Path(str(loggers[1].log_dir)))
    for name in CURVES:
        points = {event.step: event.value for event in drawn.Scalars(name)}
        assert points == pytest.approx(curves[name]), name
    assert set(trainer.progress_bar_metrics) == {"train/loss", "val/loss", "val/bleu"}
    assert float(best.best_model_score) == pytest.approx(min(curves["val/loss"].values()))  # type: ignore[arg-type]
    [table] = trainer.validate(model, data, verbose=False)
    assert set(table) == {name for name in CURVES if name.startswith("val/")}


def test_short_epochs_have_a_loss_to_decide_by(data: TranslationData, tmp_path: Path) -> None:
    """Of the steps since the last report, although a report comes only after 50 steps."""
    seen = []

    class Watch(EarlyStopping):
        def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            seen.append(float(trainer.callback_metrics["train/loss"]))

    trainer = quiet_trainer(
        default_root_dir=tmp_path, max_steps=4, limit_val_batches=0, logger=False, callbacks=[Watch("train/loss")]
    )
    model = LitTransformer(CONFIG, VOCAB_SIZE)
    trainer.fit(model, data)
    assert len(seen) >= 1
    smoothed, _, tokens = model.meter.state(trainer)
    assert seen[-1] == pytest.approx(smoothed / tokens)


def test_barebones_measures_nothing(data: TranslationData, tmp_path: Path) -> None:
    trainer = L.Trainer(accelerator="cpu", default_root_dir=tmp_path, max_steps=2, barebones=True)
    trainer.fit(LitTransformer(CONFIG, VOCAB_SIZE), data)
    assert trainer.global_step == 2
    assert trainer.callback_metrics == {}
