"""A run that begins with a trained model, or with its vocabulary."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_transformer.average import main as average
from lit_transformer.checkpoints.format import MODEL_ENTRY
from lit_transformer.checkpoints.places import load_checkpoint
from tests.helpers.runs import SHORT, Run, fit, load, own_lines, same

ARCHITECTURE = {f"model__transformer__{name}": value for name, value in {"d_model": 24, "num_layers": 2}.items()}
TINY_RATE = {"model__learning_rate_scale": 1.0, "model__learning_rate": 1e-12}


@pytest.fixture(scope="module")
def first(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with an architecture and a vocabulary of its own."""
    return fit(corpus, tmp_path_factory.mktemp("first"), **SHORT, **ARCHITECTURE, model__vocab_size=300)


@pytest.fixture
def other(corpus: Path, tmp_path: Path) -> Path:
    """A corpus with other training text, from which another vocabulary would be learned."""
    folder = Path(shutil.copytree(corpus, tmp_path / "other"))
    for file in folder.glob("train.*"):
        lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
        file.write_text("".join(lines[: len(lines) // 2]), encoding="utf-8")
    return folder


def weights(path: Path) -> dict[str, Any]:
    return dict(load_checkpoint(path).transformer.state_dict())


def test_weights_architecture_and_vocabulary_are_taken(first: Run, other: Path, tmp_path: Path) -> None:
    tuned = fit(other, tmp_path / "tuned", **SHORT, **TINY_RATE, init_from=first.folder, model__label_smoothing=0.2)
    for name, value in weights(first.checkpoint(4)).items():
        torch.testing.assert_close(weights(tuned.checkpoint(4))[name], value, rtol=0.0, atol=1e-6)
    entries = [load(run.checkpoint(4))[MODEL_ENTRY] for run in (first, tuned)]
    assert entries[0]["tokenizer"] == entries[1]["tokenizer"]
    assert "step 4" in tuned.output
    assert "model.transformer.d_model 64 -> 24" in tuned.output
    assert "label_smoothing" not in tuned.output
    config = yaml.safe_load((tuned.folder / "config.yaml").read_text(encoding="utf-8"))
    assert (config["init_from"], config["model"]["transformer"]["d_model"]) == (str(first.folder), 24)
    [start] = map(json.loads, (tuned.folder / "starts.jsonl").read_text(encoding="utf-8").splitlines())
    assert (start["first_step"], start["init_from"]["step"]) == (0, 4)


def test_it_is_resumed_exactly_and_without_the_first_model(
    first: Run, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = Path(shutil.copy(first.checkpoint(4), tmp_path / "start.ckpt"))
    longer = SHORT | {"trainer__max_steps": 8}
    whole = fit(other, tmp_path / "whole", **longer, init_from=start)
    cut = fit(other, tmp_path / "cut", **SHORT, init_from=start, ckpt_path="auto")
    start.unlink()
    shutil.rmtree(other.parent / "cache")
    capsys.readouterr()
    resumed = fit(other, tmp_path / "cut", **longer, init_from=start, ckpt_path="auto")
    assert same(load(whole.checkpoint(8))["state_dict"], load(resumed.checkpoint(8))["state_dict"])
    assert resumed.folder == cut.folder
    [note] = own_lines(capsys.readouterr().err)
    assert note.count(" -> ") == 1
    assert "trainer.max_steps" in note


def test_a_model_folder_and_other_languages(
    first: Run, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    average(["--run", str(first.folder), "--last", "1", "--output", str(tmp_path / "model")])
    for file in other.glob("*.de"):
        file.rename(file.with_suffix(".fr"))
    capsys.readouterr()
    fit(other, tmp_path / "tuned", **SHORT, init_from=tmp_path / "model", data__target="fr")
    [note] = own_lines(capsys.readouterr().err)
    assert all(language in note for language in ("en", "de", "fr"))


def test_a_place_without_a_model(other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        fit(other, tmp_path / "run", **SHORT, init_from=tmp_path / "nothing.ckpt")
    [message] = own_lines(capsys.readouterr().err)
    assert "init_from" in message
    assert "nothing.ckpt" in message


def test_only_a_vocabulary(first: Run, other: Path, tmp_path: Path) -> None:
    run = fit(other, tmp_path / "run", **SHORT, data__tokenizer=first.folder, model__vocab_size=300)
    entries = [load(each.checkpoint(4))[MODEL_ENTRY] for each in (first, run)]
    assert entries[0]["tokenizer"] == entries[1]["tokenizer"]
    assert entries[1]["transformer"]["d_model"] == 64
