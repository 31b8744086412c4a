"""What every test gets: one thread, seeds, caches of its own, and the paths of the checkout."""

import os
import random
import tempfile
from pathlib import Path

import hypothesis
import pytest
import torch

REPO_ROOT = Path(__file__).resolve().parents[1]

caches = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    # Before any test module imports `datasets`, which reads its paths once. A user's own cache stays
    # untouched, and what an earlier run left there cannot make a test pass.
    config.stash[caches] = tempfile.TemporaryDirectory(prefix="lit_transformer_", ignore_cleanup_errors=True)
    for name in list(os.environ):
        if name.startswith("HF_") and name.endswith(("_HOME", "_CACHE")):
            del os.environ[name]
    os.environ["HF_HOME"] = config.stash[caches].name
    # One thread, here and in child processes: sums have one order, and tests do not fight over shared cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    # No deadline, because the first call of a kernel is slow. The same examples in every run, so that a
    # failure belongs to the change that it appears with.
    hypothesis.settings.register_profile("house", deadline=None, derandomize=True, database=None)
    hypothesis.settings.load_profile("house")


def pytest_unconfigure(config: pytest.Config) -> None:
    config.stash[caches].cleanup()


@pytest.fixture(autouse=True)
def seed() -> None:
    """Give each test the same random numbers, whatever ran before it."""
    random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return REPO_ROOT


@pytest.fixture(scope="session")
def shared_data(repo_root: Path) -> Path:
    """The folder of real parallel text that some checkouts have beside them."""
    folder = repo_root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real text of ../shared/data is not beside this checkout")
    return folder
