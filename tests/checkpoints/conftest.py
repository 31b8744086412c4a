"""Fixtures of the tests of checkpoints: one good checkpoint and its content."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def file(tiny_run: Path) -> Path:
    """A good checkpoint. Tests do not change it."""
    from lit_transformer.checkpoints.names import step_path

    return step_path(tiny_run / "checkpoints", 120)


@pytest.fixture
def content(file: Path) -> dict[str, Any]:
    """A fresh copy of its content."""
    from lit_transformer.checkpoints.format import read_checkpoint

    return read_checkpoint(file)
