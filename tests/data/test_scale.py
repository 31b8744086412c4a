"""The benchmark of experiments/measure/scale.py on a small corpus."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def rows(repo_root: Path, *arguments: str) -> dict[str, list[str]]:
    """Return the cells of each row by stage."""
    command = [sys.executable, "experiments/measure/scale.py", *arguments]
    environment = os.environ | {"PYTHONPATH": str(repo_root)}
    output = subprocess.run(command, cwd=repo_root, env=environment, capture_output=True, text=True, check=True).stdout
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines()]
    return {line[0]: line[1:] for line in lines}


@pytest.mark.slow
def test_planning(repo_root: Path) -> None:
    [(stage, cells)] = rows(repo_root, "--stage", "plan", "--pairs", "30011").items()
    assert stage == "plan"
    assert cells[-1].startswith("30,011 pairs, 4")


@pytest.mark.slow
def test_all_stages(repo_root: Path, tmp_path: Path) -> None:
    table = rows(repo_root, "--folder", str(tmp_path), "--pairs", "3001", "--vocab_size", "500")
    assert list(table)[2:] == ["text", "read", "vocabulary", "tokens", "start cold", "start warm", "plan"]
    assert table["read"][-1].startswith("3,001 pairs")
    assert table["vocabulary"][-1].startswith("500 ")
    assert "ready after" in table["start warm"][-1]
    for seconds, _, anonymous, resident, _ in list(table.values())[2:]:
        assert 0 <= float(seconds) < 100
        assert 0.05 < float(anonymous) < float(resident) < 4
