"""What a resumed run takes from the checkpoint, and what from its own settings."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, StepLR

from lit_transformer.runs.changed_settings import ChangedSettings
from lit_transformer.training.schedule import learning_rate
from tests.helpers.runs import D_MODEL, RATE_SCALE, SHORT, WARMUP_STEPS, fit, load, own_lines

MODULE = cast(L.LightningModule, None)


@pytest.mark.parametrize(
    "changes",
    [{"learning_rate_scale": 0.3}, {"warmup_steps": 7}, {"learning_rate_scale": 2.0, "warmup_steps": 3}, {}],
    ids="-".join,
)
def test_the_learning_rate_is_the_new_one_from_the_first_step(
    changes: dict[str, Any], corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = fit(corpus, tmp_path / "first", **SHORT)
    capsys.readouterr()
    further = SHORT | {"trainer__max_steps": 6, "trainer__log_every_n_steps": 1, "seed_everything": 2}
    options = {f"model__{name}": value for name, value in changes.items()}
    second = fit(corpus, tmp_path / "second", **further, **options, ckpt_path=first.checkpoint(4))
    former = {"learning_rate_scale": RATE_SCALE, "warmup_steps": WARMUP_STEPS}
    now = former | changes
    expected = {
        step: learning_rate(step, d_model=D_MODEL, warmup_steps=now["warmup_steps"], scale=now["learning_rate_scale"])
        for step in (5, 6)
    }
    assert second.curve("train/learning_rate") == pytest.approx(expected, rel=1e-6)
    _, note = own_lines(capsys.readouterr().err)  # the first is about the other batches
    for name, value in changes.items():
        assert note.count(f"model.{name} {former[name]} -> {value}") == 1
    assert "trainer.log_every_n_steps 10 -> 1" in note
    assert note.count("seed") == 1  # and not those that follow from it
    assert note.count(" -> ") == 3 + len(changes)


def test_clipping_takes_effect_although_the_checkpoint_has_fused_adam(corpus: Path, tmp_path: Path) -> None:
    first = fit(corpus, tmp_path / "first", **SHORT)
    further = SHORT | {"trainer__max_steps": 5, "trainer__gradient_clip_val": 1e-9}
    second = fit(corpus, tmp_path / "second", **further, ckpt_path=first.checkpoint(4))
    before, after = (load(run.checkpoint(step)) for run, step in ((first, 4), (second, 5)))
    assert [content["optimizer_states"][0]["param_groups"][0]["fused"] for content in (before, after)] == [True, False]
    moments = [content["optimizer_states"][0]["state"][0]["exp_avg"] for content in (before, after)]
    torch.testing.assert_close(moments[1], 0.9 * moments[0], atol=1e-8, rtol=0.0)


Make = Callable[[list[nn.Parameter]], tuple[Optimizer, LRScheduler | None]]


def stepwise(lr: float, gamma: float = 0.5, **settings: Any) -> Make:
    def make(weights: list[nn.Parameter]) -> tuple[Optimizer, LRScheduler]:
        optimizer = AdamW(weights, lr=lr, **settings)
        return optimizer, StepLR(optimizer, 2, gamma)

    return make


def constant(lr: float) -> Make:
    return lambda weights: (SGD(weights, lr=lr, momentum=0.9), None)


def by_function(base: float, factor: float) -> Make:
    def make(weights: list[nn.Parameter]) -> tuple[Optimizer, LRScheduler]:
        optimizer = SGD(weights, lr=base)
        return optimizer, LambdaLR(optimizer, lambda step: factor * (step + 1))

    return make


def cycle(weights: list[nn.Parameter]) -> tuple[Optimizer, LRScheduler]:
    """A schedule that changes Adam's first beta, too."""
    optimizer = AdamW(weights, lr=0.1)
    return optimizer, OneCycleLR(optimizer, 0.1, total_steps=10)


class Start:
    """A start of a run as the callback sees it."""

    def __init__(self, make: Make, weights: list[nn.Parameter]) -> None:
        self.optimizer, self.schedule = make(weights)
        configs = [] if self.schedule is None else [SimpleNamespace(scheduler=self.schedule)]
        trainer = SimpleNamespace(optimizers=[self.optimizer], lr_scheduler_configs=configs, is_global_zero=True)
        self.trainer, self.callback = cast(L.Trainer, trainer), ChangedSettings()
        self.callback.on_fit_start(self.trainer, MODULE)

    def step(self) -> None:
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()

    def resume(self, former: "Start", *, recorded: bool) -> None:
        saved = {self.callback.state_key: former.callback.state_dict()} if recorded else {}
        self.callback.on_load_checkpoint(self.trainer, MODULE, {"callbacks": saved})
        self.optimizer.load_state_dict(former.optimizer.state_dict())
        if self.schedule is not None and former.schedule is not None:
            self.schedule.load_state_dict(former.schedule.state_dict())
        self.callback.on_train_start(self.trainer, MODULE)

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.optimizer.state_dict()["param_groups"][0])


def resumed(first: Make, second: Make, *, recorded: bool = True) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take three steps, and resume. Return the settings in the checkpoint, and those of the next step."""
    weights = [nn.Parameter(torch.ones(3))]
    weights[0].grad = torch.ones(3)
    former = Start(first, weights)
    for _ in range(3):
        former.step()
    now = Start(second, weights)
    now.resume(former, recorded=recorded)
    return former.settings, now.settings


CONSTANT_MOMENTS = (stepwise(0.1), constant(0.1), by_function(0.1, 0.3))


@pytest.mark.parametrize(
    ("make", "recorded"),
    # Only the record tells what a schedule has changed in the optimizer.
    [(make, recorded) for make in CONSTANT_MOMENTS for recorded in (True, False)] + [(cycle, True)],
)
def test_without_changes_everything_is_as_restored(
    make: Make, recorded: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = resumed(make, make, recorded=recorded)
    assert before == after
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("first", "second", "rate"),
    [
        (stepwise(0.1), stepwise(0.01), 0.005),
        (constant(0.1), constant(0.01), 0.01),
        (by_function(0.1, 0.3), by_function(0.1, 0.2), 0.1 * 0.2 * 4),
        (by_function(0.1, 0.3), by_function(0.2, 0.3), 0.2 * 0.3 * 4),
    ],
)
@pytest.mark.parametrize("recorded", [True, False])
def test_another_rate_takes_effect_at_once(first: Make, second: Make, rate: float, recorded: bool) -> None:
    """With and without a schedule, and with one whose function has changed."""
    assert resumed(first, second, recorded=recorded)[1]["lr"] == pytest.approx(rate)


def test_other_settings_of_the_optimizer_and_the_schedule_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _, after = resumed(stepwise(0.1), stepwise(0.1, gamma=0.25, betas=(0.8, 0.9), weight_decay=0.5))
    assert (after["lr"], after["betas"], after["weight_decay"]) == (0.05, (0.8, 0.9), 0.5)
    [note] = own_lines(capsys.readouterr().err)
    for change in ("betas (0.9, 0.999) -> (0.8, 0.9)", "weight_decay 0.01 -> 0.5", "gamma 0.5 -> 0.25"):
        assert change in note
    assert note.count(" -> ") == 3


def test_settings_that_version_0_1_did_not_have_are_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    trainer: Any = SimpleNamespace(optimizers=[], lr_scheduler_configs=[], is_global_zero=True)
    former = {"settings": {"data.symbols": (), "checkpoints.keep": 5, "trainer.max_steps": 3}}
    callback = ChangedSettings()
    callback.record({"data.symbols": [], "checkpoints.save_top_k": 5, "trainer.max_steps": 4})
    callback.on_load_checkpoint(trainer, trainer, {"callbacks": {callback.state_key: former}})
    callback.on_train_start(trainer, trainer)
    [note] = own_lines(capsys.readouterr().err)
    assert note.endswith(": trainer.max_steps 3 -> 4")
