"""Runs with another optimizer or schedule than the paper's: exact when resumed, and clear when they cannot be."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adafactor, AdamW, SparseAdam

from lit_transformer.errors import UserError
from lit_transformer.training.optimizer import state_bytes
from tests.helpers.runs import SHORT, fit, load, own_lines, same

ADAMW = {"model__optimizer": "AdamW", "model__optimizer__weight_decay": 0.1}
COSINE = {"model__schedule": "cosine"}
STEP = {"model__schedule": "StepLR", "model__schedule__step_size": 3, "model__schedule__gamma": 0.5}
PLATEAU = {
    "model__schedule": "lightning.pytorch.cli.ReduceLROnPlateau",
    "model__schedule__monitor": "val/loss",
    "model__schedule__mode": "max",  # falls at each validation
    "model__schedule__patience": 0,
    "trainer__val_check_interval": 2,
}
RATE = {"model__learning_rate_scale": 1.0, "model__learning_rate": 0.01, "model__warmup_steps": 2}
CHOICES: dict[str, dict[str, Any]] = {
    "AdamW, cosine": ADAMW | COSINE,
    "SGD, StepLR": {"model__optimizer": "SGD", "model__optimizer__momentum": 0.9} | STEP,
    "Adafactor, linear": {"model__optimizer": "torch.optim.Adafactor", "model__schedule": "linear"},
    "Adam, plateau": PLATEAU,
}
LONG = SHORT | RATE | {"trainer__max_steps": 8, "trainer__log_every_n_steps": 1}


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_a_run_that_was_cut_ends_as_one_that_was_not(choice: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    whole = fit(corpus, tmp_path / "whole", **(LONG | choice), checkpoints__save_weights_only=False)
    cut = fit(corpus, tmp_path / "cut", **(LONG | choice), ckpt_path=whole.checkpoint(4))
    ends = [load(run.checkpoint(8)) for run in (whole, cut)]
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(*(end[part] for end in ends)), part
    rates = whole.curve("train/learning_rate")
    assert {step: rate for step, rate in rates.items() if step > 4} == cut.curve("train/learning_rate")
    assert len(set(rates.values())) > 1


@pytest.mark.parametrize(
    ("former", "now"), [({}, STEP), (STEP, {}), (STEP, COSINE), (COSINE, PLATEAU), (PLATEAU, {})], ids=str
)
def test_another_schedule_takes_effect_at_once(
    former: dict[str, Any], now: dict[str, Any], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rates are those of a run that always had it."""
    meant = fit(corpus, tmp_path / "meant", **(LONG | now)).curve("train/learning_rate")
    start = fit(corpus, tmp_path / "start", **(LONG | {"trainer__max_steps": 4} | former)).checkpoint(4)
    capsys.readouterr()
    rates = fit(corpus, tmp_path / "run", **(LONG | now), ckpt_path=start).curve("train/learning_rate")
    if now != PLATEAU:  # it begins at the peak
        assert rates == pytest.approx({step: rate for step, rate in meant.items() if step > 4}, rel=1e-6)
    assert rates[5] == pytest.approx(0.01) or now != PLATEAU
    notes = [line for line in own_lines(capsys.readouterr().err) if "model.schedule" in line]
    assert len(notes) == (former != now)


def test_another_optimizer_is_refused_in_one_line(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sgd = {"model__optimizer": "SGD"}
    starts = {
        name: fit(corpus, tmp_path / name, **(LONG | {"trainer__max_steps": 4} | choice)).checkpoint(4)
        for name, choice in (("Adam", {}), ("AdamW", ADAMW), ("SGD", sgd))
    }
    for name, choice in (("Adam", sgd), ("SGD", {}), ("Adam", ADAMW), ("AdamW", {})):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            fit(corpus, tmp_path / "other", **(LONG | choice), ckpt_path=starts[name])
        [message] = [line for line in own_lines(capsys.readouterr().err) if line.startswith("error")]
        assert f"the state of {name} with" in message


def test_weight_decay_may_change(corpus: Path, tmp_path: Path) -> None:
    start = fit(corpus, tmp_path / "start", **(LONG | {"trainer__max_steps": 4} | ADAMW)).checkpoint(4)
    changed = ADAMW | {"model__optimizer__weight_decay": 0.3}
    [optimizer] = load(fit(corpus, tmp_path / "changed", **(LONG | changed), ckpt_path=start).checkpoint(8))[
        "optimizer_states"
    ]
    assert [group["weight_decay"] for group in optimizer["param_groups"]] == [0.3, 0.0]


@pytest.mark.parametrize(
    ("choice", "numbers"), [(None, 2.0), (AdamW, 2.0), (SGD, 0.0), (partial(SGD, momentum=0.9), 1.0), (Adafactor, 0.0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_memory_of_the_state(choice: Any, numbers: float, dtype: torch.dtype) -> None:
    """Numbers per weight, by hand."""
    model = nn.Linear(5, 3, dtype=dtype)
    assert state_bytes(choice, model, peak=0.001) == pytest.approx(numbers * dtype.itemsize, abs=0.1)


def test_an_optimizer_that_cannot_take_a_step_is_refused_before_the_first_one() -> None:
    with pytest.raises(UserError, match="optimizer"):
        state_bytes(SparseAdam, nn.Linear(5, 3), peak=0.001)
