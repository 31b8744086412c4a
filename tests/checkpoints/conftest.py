"""What tests of checkpoints share: one good checkpoint and its content."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def file(tiny_run: Path) -> Path:
    """A checkpoint that is not changed."""
    from lit_transformer.checkpoints.names import step_path

    return step_path(tiny_run / "checkpoints", 120)


@pytest.fixture
def content(file: Path) -> dict[str, Any]:
    """What the file holds, to be changed and saved elsewhere."""
    from lit_transformer.checkpoints.format import read_checkpoint

    return read_checkpoint(file)
