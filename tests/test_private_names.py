"""Private names of other projects: one module uses those of Lightning and torch, and installed versions have them."""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import launchers
from torch.utils.tensorboard import SummaryWriter


def trainer() -> L.Trainer:
    return L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


OWNERS: dict[str, Callable[[], Any]] = {
    "_accelerator_connector": trainer,
    "_broadcast_sigterm_tensor": lambda: trainer().fit_loop.epoch_loop,
    "_get_file_writer": lambda: SummaryWriter,
    "_SubprocessScriptLauncher": lambda: launchers,
    "_is_avx512_bf16_supported": lambda: torch.cpu,
    "_is_amx_tile_supported": lambda: torch.cpu,
    "_is_mkldnn_bf16_supported": lambda: torch.ops.mkldnn,
    "_dynamo": lambda: torch,
    "_fingerprint": lambda: datasets.Dataset.from_dict({"id": [1]}),
}
"""The object that has each private name. The bounds of pyproject.toml keep out versions that were not tried."""
USERS = {name: "data/columns.py" if name == "_fingerprint" else "runs/private_names.py" for name in OWNERS}
"""The module that may use it, and says there why it must."""
DOCUMENTED = {"_asdict", "_replace", "_fields", "_exit"}  # of named tuples, and of `os`


def private_names(path: Path) -> Iterator[str]:
    """Of what others define: neither what a class says of itself, nor what the package names anywhere."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            if ast.unparse(node.value) not in ("self", "cls"):
                yield node.attr
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("lit_transformer"):
            yield from (alias.name for alias in node.names if alias.name.startswith("_"))


def own_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def test_tests_use_none_of_ours(repo_root: Path) -> None:
    own = {name for path in (repo_root / "lit_transformer").rglob("*.py") for name in own_names(path)}
    for path in (repo_root / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lit_transformer"):
                assert not [alias.name for alias in node.names if alias.name.startswith("_")], path
        theirs = own - set(own_names(path))
        assert not [name for name in private_names(path) if name in theirs and not name.startswith("_repr_")], path


def test_each_has_one_module_that_uses_it(repo_root: Path) -> None:
    package = repo_root / "lit_transformer"
    paths = sorted(package.rglob("*.py"))
    own = {name for path in paths for name in own_names(path)}
    used = {
        (name, path.relative_to(package).as_posix())
        for path in paths
        for name in private_names(path)
        if name not in own | DOCUMENTED
    }
    assert used == set(USERS.items())


@pytest.mark.parametrize("name", OWNERS)
def test_the_installed_versions_have_them(name: str) -> None:
    assert hasattr(OWNERS[name](), name)
