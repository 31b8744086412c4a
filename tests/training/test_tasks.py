"""What holds for translation holds for every task: exact resuming, accumulation, processes, `check`, mistakes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_transformer import check
from lit_transformer.checkpoints.descendants import load_descendant
from lit_transformer.cli.tasks import DEFAULT, TASKS
from lit_transformer.fit import main
from lit_transformer.translate import main as translate
from tests.helpers.runs import load

DESCENDANTS = [name for name in TASKS if name != DEFAULT.name]
FAST = "causal_lm"
each_task = pytest.mark.parametrize(
    "task", [pytest.param(name, marks=[pytest.mark.slow] * (name != FAST)) for name in DESCENDANTS]
)
STEPS = 4
SHAPE = {"d_model": 16, "d_ff": 24, "num_heads": 2, "num_layers": 1, "dropout": 0.0}
TEXT = {"model.vocab_size": 300, "data.corpus": "demo:300", "data.tokens_per_batch": 400}
OWN: dict[str, dict[str, Any]] = {
    "causal_lm": {"data.block_length": 23},
    "image_classification": {
        "model.image_size": 8,
        "model.patch_size": 2,
        "model.num_channels": 1,
        "model.num_classes": 10,
        "data.corpus": "digits",
        "data.images_per_batch": 48,
    },
}
"""What a task needs beside `TEXT`, or in place of it."""


def settings(task: str, root: Path, cache: Path, **changes: Any) -> list[str]:
    values = {
        "task": task,
        **{f"model.transformer.{name}": value for name, value in SHAPE.items()},
        **({} if task == "image_classification" else TEXT),
        **OWN.get(task, {}),
        "model.warmup_steps": 3,
        "data.cache_dir": cache,
        "trainer.accelerator": "cpu",
        "trainer.precision": "64-true",
        "trainer.max_steps": STEPS,
        "trainer.val_check_interval": 2,
        "trainer.log_every_n_steps": 1,
        "trainer.default_root_dir": root,
        "checkpoints.every_n_train_steps": 1,
        "checkpoints.save_weights_only": "false",
    }
    values |= {name.replace("__", "."): value for name, value in changes.items()}
    return [f"--{name}={value}" for name, value in values.items()]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


def small_batches(task: str) -> dict[str, Any]:
    """Settings for which a step has several micro-batches."""
    return (
        {"data__max_images_per_device": 12} if task == "image_classification" else {"data__max_tokens_per_device": 110}
    )


def assert_same_steps(mine: Path, expected: Path) -> None:
    """Compare the first step's gradients and the last weights."""
    for step in (1, STEPS):
        ours, theirs = (load(next(folder.rglob(f"step-{step:08}.ckpt"))) for folder in (mine, expected))
        for name, weight in theirs["state_dict"].items():
            # A bias of the keys has the gradient 0, and Adam divides its rounding error by itself and 1e-9.
            torch.testing.assert_close(ours["state_dict"][name], weight, rtol=1e-6, atol=1e-7)
        moments, expected_moments = (each["optimizer_states"][0]["state"] for each in (ours, theirs))
        for index, state in expected_moments.items():
            gradient = state["exp_avg"]
            bound = 1e-6 * float(gradient.abs().max())
            torch.testing.assert_close(moments[index]["exp_avg"], gradient, rtol=1e-6, atol=bound)


@each_task
def test_a_run_is_the_same_resumed_and_in_micro_batches(task: str, cache: Path, tmp_path: Path) -> None:
    """Resumed to the bit, and in float64 to rounding."""
    whole, parts, cut = (tmp_path / name for name in ("whole", "parts", "cut"))
    noisy = {"model__transformer__dropout": 0.2, **small_batches(task)}
    main(settings(task, whole, cache, **noisy))
    result = main(settings(task, cut, cache, trainer__max_steps=2, **noisy))
    assert result is not None
    main(settings(task, cut, cache, name="version_0", ckpt_path="auto", **noisy))
    resumed, expected = (load(next(folder.rglob(f"step-{STEPS:08}.ckpt"))) for folder in (cut, whole))
    assert resumed["state_dict"].keys() == expected["state_dict"].keys()
    for name, weight in expected["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], weight), name
    main(settings(task, parts / "one", cache))
    main(settings(task, parts / "many", cache, **small_batches(task)))
    many = load(next((parts / "many").rglob("step-*.ckpt")))
    assert many["RunRecord"]["micro_batches"] > 1
    assert_same_steps(parts / "many", parts / "one")
    trained = load_descendant(whole)
    assert trained.step > 0
    assert "config.yaml" in {path.name for path in result.run.iterdir()}
    assert f"task: {task}\n" in (result.run / "config.yaml").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("task", DESCENDANTS)
def test_two_processes_take_the_same_steps(task: str, cache: Path, tmp_path: Path, repo_root: Path) -> None:
    main(settings(task, tmp_path / "alone", cache))
    options = settings(task, tmp_path / "two", cache, trainer__devices=2, trainer__strategy="ddp")
    command = [sys.executable, "-m", "lit_transformer.fit", *options]
    subprocess.run(command, cwd=repo_root, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, timeout=300)
    assert_same_steps(tmp_path / "two", tmp_path / "alone")


@each_task
def test_check_predicts_the_run(task: str, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check.main(settings(task, tmp_path, cache))
    output = capsys.readouterr().out
    rows = {line.split("  ")[0] for line in output.splitlines() if line[:1].strip()}
    assert {"model", "data", "a step", "an epoch", "devices", "compute", "speed", "time", "memory", "disk"} <= rows


def test_a_translator_and_a_descendant_are_not_confused(
    cache: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = main(settings(FAST, tmp_path, cache, trainer__max_steps=1))
    assert result is not None
    for command, args in (
        (translate, ["--checkpoint", str(result.run)]),
        (main, ["copy", f"--ckpt_path={result.run}", f"--trainer.default_root_dir={tmp_path}"]),
        (main, settings(FAST, tmp_path, cache, data__packing="true")),
        (main, settings(FAST, tmp_path, cache, init_from=result.run)),
    ):
        capfd.readouterr()
        with pytest.raises(SystemExit, match="2"):
            command(args)
        error = capfd.readouterr().err.splitlines()[-1]
        assert error.startswith("error: ")
        assert any(word in error for word in ("gpt", "packing", "init_from")), error
