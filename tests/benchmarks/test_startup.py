"""Starts of commands, as processes of their own."""

from pathlib import Path

import pytest

from lit_transformer.benchmarks.startup import StartJob, measure_startup
from lit_transformer.errors import UserError


@pytest.mark.slow
def test_starts_are_measured() -> None:
    rows = measure_startup(StartJob(commands=["align"], checkpoint=None, repeats=1))
    assert [row["name"] for row in rows] == [
        "import torch",
        "help of align",
        "translate, one line",
        "fit, first step of the demo",
    ]
    assert all(row["seconds"] > 0 and row["cpu_seconds"] > 0 for row in rows)


def test_a_command_that_fails_is_named(tmp_path: Path) -> None:
    job = StartJob(commands=[], checkpoint=str(tmp_path / "missing"), first_step=False, repeats=1)
    with pytest.raises(UserError, match=r"lit_transformer\.translate.*missing"):
        measure_startup(job)
