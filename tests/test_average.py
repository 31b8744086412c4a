"""`average` as a user runs it."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from lit_transformer import Translator, average
from lit_transformer.checkpoints.format import read_checkpoint
from lit_transformer.checkpoints.places import find_checkpoint, load_checkpoint
from lit_transformer.data.demo.corpus import demo_pairs

KNOWN = demo_pairs("train", num_pairs=31)
ENGLISH = [pair.english for pair in KNOWN]
GERMAN = [pair.german for pair in KNOWN]


def test_an_average_is_a_checkpoint(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "logs" / "version_0"
    shutil.copytree(tiny_run / "checkpoints", run / "checkpoints")
    # Written later than the others, but of an earlier step.
    os.utime(run / "checkpoints" / "step-00000040.ckpt")
    for _ in range(2):  # a run that went on is averaged again
        average.main(["--run", str(tmp_path / "logs"), "--last", "2"])
    written = run / "checkpoints" / "average-2"
    assert capsys.readouterr().out == 2 * f"averaged step-00000080.ckpt, step-00000120.ckpt\nwritten: {written}\n"
    weights = [read_checkpoint(run / "checkpoints" / f"step-{step:08}.ckpt")["state_dict"] for step in (80, 120)]
    mean = load_checkpoint(written).transformer.state_dict()
    for name, value in mean.items():
        expected = (weights[0][f"transformer.{name}"].double() + weights[1][f"transformer.{name}"].double()) / 2
        assert torch.equal(value, expected.float()), name
    # The run still stands for its best checkpoint.
    assert find_checkpoint(run).name == "best-step-00000120.ckpt"
    average.main(["--run", str(run), "--last", "1", "--output", str(tmp_path / "one")])
    assert Translator.load(tmp_path / "one").translate(ENGLISH) == GERMAN
