"""Every option of every command with unexpected values: the command succeeds or prints one line of error."""

import re
from pathlib import Path

import pytest

from lit_transformer.cli.training import CheckCLI, FitCLI, parse
from tests.helpers.runs import arguments
from tests.helpers.worker import Worker

HUGE = "9" * 30
VALUES = ["-1", "0", "2.5", HUGE, "nan", "", "null", "wide", "[1, 2]", "{}", "true", "ü\u2028\x1b"]
FILLS_THE_MEMORY = ("model.transformer.num_layers", HUGE)
"""Layers are made one by one until the memory is full. What happens then depends on where that is."""
TINY = {
    "model__transformer__d_model": 16,
    "model__transformer__d_ff": 16,
    "trainer__max_steps": 2,
    "trainer__val_check_interval": 2,
}


def complaints(worker: Worker, command: str, base: list[str], options: list[str]) -> list[str]:
    """The failures, for each option and value."""
    wrong = []
    for option in options:
        for value in VALUES:
            if (option, value) == FILLS_THE_MEMORY:
                continue
            try:
                worker.run(command, *base, f"--{option}={value}", stdin=b"A cat.\n", train=False).check()
            except AssertionError as error:
                wrong.append(f"{command} --{option}={value!a}: {error}")
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize(("command", "cli"), [("fit", FitCLI), ("check", CheckCLI)])
def test_every_setting_of_training(
    command: str, cli: type[FitCLI], corpus: Path, tmp_path: Path, worker: Worker
) -> None:
    base = arguments(corpus, tmp_path, **TINY)
    settings = list(parse(base, cli).config.keys(branches=True))
    assert len(settings) > 50
    assert complaints(worker, command, base, settings) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["test", "translate", "average", "attention", "align"])
def test_every_option(command: str, tiny_run: Path, corpus: Path, tmp_path: Path, worker: Worker) -> None:
    run = [f"--checkpoint={tiny_run}", "--device=cpu"]
    english, german = (corpus / f"valid.{language}" for language in ("en", "de"))
    base = {
        "test": [*run, f"--corpus={corpus}", "--split=valid", f"--cache_dir={tmp_path}", f"--output={tmp_path}/out"],
        "translate": run,
        "average": [f"--run={tiny_run}", "--last=1", f"--output={tmp_path}/average"],
        "attention": [*run, "--text=A cat.", f"--output={tmp_path}/map.json"],
        "align": [*run, f"--source={english}", f"--target={german}", "--layer=1"],
    }[command]
    helped = worker.run(command, "--help").out.decode()
    options = sorted(set(re.findall(r"--(\w+)", helped)) - {"help"})
    assert len(options) > 2
    assert complaints(worker, command, base, options) == []
