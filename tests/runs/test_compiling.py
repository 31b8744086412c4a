"""Runs with `model.compile`: resumed exactly, counted, and interchangeable with eager ones."""

from pathlib import Path

import pytest
import torch

from lit_transformer import fit as command
from tests.helpers.runs import arguments, fit, load, same

STEPS = {
    "trainer__max_steps": 4,
    "model__transformer__d_model": 16,
    "trainer__limit_val_batches": 0,
    "checkpoints__every_n_train_steps": 2,
    "model__transformer__dropout": 0.3,
}


def test_a_compiled_run_is_resumed_exactly_also_by_an_eager_one(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.compiler.reset()
    with torch.compiler.set_stance("default", force_backend="eager"):
        whole = fit(corpus, tmp_path / "whole", **STEPS, model__compile=True)
        assert "note: this start compiled 1 graph\n" in capsys.readouterr().err
        middle = whole.checkpoint(2)
        rest = fit(corpus, tmp_path / "rest", **STEPS, model__compile=True, ckpt_path=middle)
        capsys.readouterr()
    eager = fit(corpus, tmp_path / "eager", **STEPS, ckpt_path=middle)
    assert "graph" not in capsys.readouterr().err
    torch.compiler.reset()
    weights, resumed, other = (load(run.checkpoint(4))["state_dict"] for run in (whole, rest, eager))
    assert same(weights, resumed)
    # Eager dropout draws other numbers.
    assert weights.keys() == other.keys()
    assert not same(weights, other)


def test_other_strategies_are_refused(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(arguments(corpus, tmp_path, model__compile=True, trainer__strategy="fsdp"))
    assert "error: " in capsys.readouterr().err
