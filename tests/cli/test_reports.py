"""What `fit` prints at its end: hints that work as they are."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from lit_transformer import test as test_command
from tests.helpers.runs import SHORT, fit


def hints(corpus: Path, root: Path, **changes: Any) -> tuple[list[str], dict[str, list[str]]]:
    """The lines before the commands at the end of a run, and the commands with their arguments."""
    before, _, commands = fit(corpus, root, **SHORT | changes).output.rpartition("Next:\n")
    words = [shlex.split(line) for line in commands.splitlines()]
    return before.splitlines(), {line[2] if line[1] == "-m" else line[0]: line for line in words}


def test_the_model_can_be_tested_on_the_split_that_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The corpus has no test split."""
    _, commands = hints(corpus, tmp_path / "runs")
    capsys.readouterr()
    test_command.main([*commands["lit_transformer.test"][3:], "--device", "cpu"])
    assert "BLEU" in capsys.readouterr().out


def test_held_out_pairs_are_no_split(corpus: Path, tmp_path: Path) -> None:
    _, commands = hints(corpus, tmp_path / "runs", data__valid_pairs=5)
    assert [*commands] == ["lit_transformer.translate", "tensorboard"]


@pytest.mark.parametrize(("logger", "place"), [("CSVLogger", "metrics.csv"), ("true", ""), ("false", None)])
def test_the_curves_are_where_their_logger_writes(logger: str, place: str | None, corpus: Path, tmp_path: Path) -> None:
    before, commands = hints(corpus, tmp_path / "runs", trainer__logger=logger)
    places = [line.split()[1] for line in before if line.startswith("Curves:")]
    folder = tmp_path / "runs" / "version_0"
    assert [Path(found) for found in places] == ([] if place is None else [folder / place])
    assert ("tensorboard" in commands) == (logger == "true")
