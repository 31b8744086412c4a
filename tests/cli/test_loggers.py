"""The loggers that settings name: where they write, what they get, and how they go on with their run."""

import csv
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from lit_transformer.fit import main
from lit_transformer.runs.run_folder import STARTS
from tests.helpers.runs import SHORT, Run, arguments, events, fit, own_lines

FEW = SHORT | {"trainer__log_every_n_steps": 2}
AGAIN = FEW | {"trainer__max_steps": 6, "ckpt_path": "auto"}
"""Goes on from step 4 to step 6, without a validation."""


def fit_with(corpus: Path, root: Path, *args: str, **changes: Any) -> Run:
    main([*arguments(corpus, root, **changes), *args])
    return Run(root / "version_0", "")


def steps_of(file: Path) -> list[tuple[int, str]]:
    """The steps of a file of `CSVLogger`, and whether they have losses of training or validation."""
    with file.open(encoding="utf-8") as lines:
        return [(int(row["step"]), "train" if row["train/loss"] else "val") for row in csv.DictReader(lines)]


def versions(run: Run) -> list[dict[str, Any]]:
    """The versions of the loggers in each start of a run."""
    lines = (run.folder / STARTS).read_text(encoding="utf-8").splitlines()
    return [dict(json.loads(line)["loggers"]) for line in lines]


def test_a_csv_logger_writes_into_the_run_s_folder_and_goes_on(corpus: Path, tmp_path: Path) -> None:
    """A point after the checkpoint, as a kill may leave it, is drawn anew."""
    run = fit_with(corpus, tmp_path, "--trainer.logger=CSVLogger", **FEW)
    file = run.folder / "metrics.csv"
    assert steps_of(file) == [(2, "train"), (4, "train"), (4, "val")]
    before = file.read_text(encoding="utf-8").splitlines()
    with file.open("a", encoding="utf-8") as lines:
        lines.write(re.sub("^2,", "6,", before[1]) + "\n")
    fit_with(corpus, tmp_path, "--trainer.logger=CSVLogger", **AGAIN)
    assert steps_of(file) == [(2, "train"), (4, "train"), (4, "val"), (6, "train")]
    assert file.read_text(encoding="utf-8").splitlines()[:4] == before
    assert not list(run.folder.glob("events.*"))


def test_a_folder_that_is_given_stays(corpus: Path, tmp_path: Path) -> None:
    """The checkpoints lie in the run's folder all the same, and a start that goes on finds the logger's."""
    options = ("--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={tmp_path / 'logs'}")
    for changes in (FEW, AGAIN):
        run = fit_with(corpus, tmp_path / "runs", *options, **changes)
    assert run.checkpoint(6).exists()
    [folder] = (tmp_path / "logs" / "lightning_logs").iterdir()
    assert steps_of(folder / "metrics.csv")[-1] == (6, "train")
    assert not (run.folder / "metrics.csv").exists()


def test_several_loggers_get_the_same_curves(corpus: Path, tmp_path: Path) -> None:
    """In YAML, by their full names, and on the command line."""
    prefix = "lightning.pytorch.loggers"
    listed = tmp_path / "loggers.yaml"
    listed.write_text(f"trainer: {{logger: [{{class_path: {prefix}.TensorBoardLogger}}, {{class_path: CSVLogger}}]}}")
    added = ["--trainer.logger=TensorBoardLogger", "--trainer.logger+=CSVLogger"]
    for name, options in (("listed", [f"--config={listed}"]), ("added", added)):
        run = fit_with(corpus, tmp_path / name, *options, **FEW)
        assert steps_of(run.folder / "metrics.csv") == [(2, "train"), (4, "train"), (4, "val")]
        assert [*run.curve("train/loss")] == [2, 4]
        tags = set(events(run.folder).Tags()["tensors"])
        assert tags >= {"custom_scalars__config__", "val/translations/text_summary"}
        assert "hparams.yaml" in {path.name for path in run.folder.iterdir()}


def test_nothing_is_logged_in_a_trial(corpus: Path, tmp_path: Path) -> None:
    fit_with(corpus, tmp_path, "--trainer.logger=CSVLogger", **FEW, trainer__fast_dev_run="true")
    assert not list(tmp_path.rglob("metrics.csv"))


@pytest.mark.parametrize(("logger", "package"), [("WandbLogger", "wandb"), ("MLFlowLogger", "mlflow")])
def test_a_package_that_is_missing(
    logger: str,
    package: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit) as exit_status:
        fit(corpus, tmp_path / "runs", trainer__logger=logger)
    assert exit_status.value.code == 2
    [error] = own_lines(capfd.readouterr().err)
    assert re.match(rf"error: trainer\.logger names {logger}.* pip install .*\[{package}\]", error)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server, and without files outside `tmp_path`."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb"))


@pytest.mark.usefixtures("offline")
def test_weights_and_biases_goes_on_with_its_run(corpus: Path, tmp_path: Path) -> None:
    """With curves, settings, translations and pictures. The next run of the process is another one."""
    root = tmp_path / "runs"
    options = ("--trainer.logger=WandbLogger", "--trainer.logger.offline=true")
    run = fit_with(corpus, root, *options, **FEW | {"attention__sentences": 1})
    fit_with(corpus, root, *options, **AGAIN)
    fit_with(corpus, root, *options, **FEW, name="other")
    first, second = (start["WandbLogger"] for start in versions(run))
    assert first == second != versions(Run(root / "other", ""))[0]["WandbLogger"]
    starts = sorted((run.folder / "wandb").glob("offline-run-*"))
    assert [path.name.endswith(first) for path in starts] == [True, True]
    content = (starts[0] / f"run-{first}.wandb").read_bytes()
    for part in ("train/loss", "val/loss", "model.transformer.d_model", "runs/version_0"):
        assert part.encode() in content, part
    [table] = (starts[0] / "files" / "media" / "table").rglob("*.json")
    assert json.loads(table.read_text(encoding="utf-8"))["columns"] == ["source", "translation", "reference"]
    assert len(list((starts[0] / "files" / "media" / "images").rglob("*.png"))) == 1


def test_a_service_that_cannot_be_used(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Before the first step."""

    def refuse(**_: Any) -> None:
        raise RuntimeError("no account")

    monkeypatch.setattr("wandb.init", refuse)
    with pytest.raises(SystemExit) as exit_status:
        fit(corpus, tmp_path / "runs", **FEW, trainer__logger="WandbLogger")
    assert exit_status.value.code == 2
    [error] = own_lines(capfd.readouterr().err)
    assert re.match(r"error: trainer\.logger WandbLogger: .*no account", error)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_mlflow_goes_on_with_its_run(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With curves, settings, translations and pictures."""
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: pip install -e '.[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no database
    for changes in (FEW | {"attention__sentences": 1}, AGAIN):
        run = fit_with(corpus, tmp_path / "runs", "--trainer.logger=MLFlowLogger", **changes)
    first, second = (start["MLFlowLogger"] for start in versions(run))
    assert first == second
    client = mlflow.tracking.MlflowClient()
    assert [point.step for point in client.get_metric_history(first, "train/loss")] == [2, 4, 6]
    assert [point.step for point in client.get_metric_history(first, "val/loss")] == [4]
    found = client.get_run(first)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "runs/version_0")
    assert found.data.params["model.transformer.d_model"] == "64"
    assert [file.path for file in client.list_artifacts(first, "val/translations")]
    assert any(file.path.endswith(".png") for file in client.list_artifacts(first, "images"))
