"""What a run writes about itself at every start, and what it says of the checkpoint that it resumes from."""

import json
import subprocess
from pathlib import Path

import pytest
import torch

from lit_transformer.checkpoints.format import save_checkpoint
from lit_transformer.runs.run_folder import STARTS
from tests.helpers.corpora import make_corpus
from tests.helpers.runs import SHORT, fit, load, own_lines


def test_every_start_leaves_a_line(tmp_path: Path, repo_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    run = fit(corpus, tmp_path / "runs", **SHORT)
    fit(corpus, tmp_path / "runs", **SHORT | {"trainer__max_steps": 6}, ckpt_path="auto")
    first, second = (json.loads(line) for line in (run.folder / STARTS).read_text(encoding="utf-8").splitlines())
    assert (first["first_step"], second["first_step"]) == (0, 4)
    assert first["data"] == second["data"]
    # A build for CUDA is `2.13.0+cu130` to torch itself, and not to all who package it.
    recorded, here = (name.partition("+")[0] for name in (first["versions"]["torch"], torch.__version__))
    assert (first["devices"], recorded) == (1, here)
    if (repo_root / ".git").exists():
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repo_root, capture_output=True, text=True, check=True)
        assert first["commit"].removesuffix("-dirty") == head.stdout.strip()
    assert own_lines(capsys.readouterr().err) == [
        "note: settings that differ from those of the checkpoint: trainer.max_steps 4 -> 6"
    ]
    # Other data and another precision under the same checkpoint are allowed, and said.
    changes = {"trainer__max_steps": 8, "seed_everything": 2, "trainer__precision": "64-true"}
    fit(corpus, tmp_path / "runs", **SHORT | changes, ckpt_path="auto")
    notes = capsys.readouterr().err
    assert "note: the checkpoint was made with data" in notes
    assert "note: the checkpoint was made with precision 32-true, this run has 64-true: " in notes
    assert "seed_everything 1 -> 2" in notes
    assert "trainer.precision" not in notes  # it is listed once


def test_a_checkpoint_from_before_a_fact_was_recorded_is_resumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = make_corpus(tmp_path / "corpus")
    run = fit(corpus, tmp_path / "runs", **SHORT)
    content = load(run.checkpoint(4))
    del content["RunRecord"]["precision"]
    del content["callbacks"]["ChangedSettings"]
    save_checkpoint(content, tmp_path / "old.ckpt")
    fit(corpus, tmp_path / "again", **SHORT | {"trainer__max_steps": 5}, ckpt_path=tmp_path / "old.ckpt")
    assert "note:" not in capsys.readouterr().err
