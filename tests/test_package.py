"""The package as others see it: public names, their types, and a wheel that needs no checkout."""

import io
import os
import pydoc
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.version import Version

import lit_transformer


def test_public_names_are_there() -> None:
    assert set(lit_transformer.__all__) <= set(dir(lit_transformer))
    for name in lit_transformer.__all__:
        assert getattr(lit_transformer, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such_name"):
        lit_transformer.no_such_name  # type: ignore[attr-defined]  # noqa: B018


def test_help_describes_them() -> None:
    text = io.StringIO()
    pydoc.Helper(output=text).help(lit_transformer)
    for name in lit_transformer.__all__:
        assert name in text.getvalue()


def skip_without_setuptools() -> None:
    try:
        is_new = Version(version("setuptools")) >= Version("77")
    except PackageNotFoundError:
        is_new = False
    if not is_new:
        pytest.skip("building a package offline needs setuptools 77")


def test_the_source_archive_holds_the_checkout(repo_root: Path, tmp_path: Path) -> None:
    """Its tests find their helpers, and what they read: documents, recipes, notebooks."""
    skip_without_setuptools()
    if not (repo_root / ".git").exists():
        pytest.skip("this is not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=repo_root, capture_output=True, text=True, check=True)
    names = {name for name in listing.stdout.split("\0") if name and (repo_root / name).exists()}
    for name in names:
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repo_root / name, tmp_path / "source" / name)
    build = f"from setuptools.build_meta import build_sdist; build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path / "source", capture_output=True, check=True)
    [archive] = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        held = {name.partition("/")[2] for name in files.getnames()}
    assert names - held == {".gitignore"}


@pytest.fixture(scope="module")
def installed(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked wheel of this checkout."""
    skip_without_setuptools()
    source = tmp_path_factory.mktemp("source")
    for name in ("lit_transformer", "experiments"):
        shutil.copytree(repo_root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repo_root / name, source)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "-w",
        "wheel",
        ".",
    ]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = (source / "wheel").iterdir()
    assert lit_transformer.__version__ in wheel.name
    zipfile.ZipFile(wheel).extractall(source / "installed")
    return source / "installed"


@pytest.mark.slow
def test_a_wheel_trains_the_demo_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    """A few steps: the recipe and all files other than Python are in the wheel."""

    def command(*args: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
        program = [sys.executable, "-m", "lit_transformer", *args]
        done = subprocess.run(program, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    small = ["--trainer.max_steps=4", "--trainer.val_check_interval=4", "--checkpoints.every_n_train_steps=4"]
    command("fit", "--config", "demo", "--config", "variants/rotary", "--data.cache_dir=cache", *small)
    assert [path.name for path in tmp_path.rglob("step-*.ckpt")] == ["step-00000004.ckpt"]
    command("attention", "--checkpoint", "runs/demo", "--text", "The cat sleeps.", "--output", "map.html")
    assert "The" in (tmp_path / "map.html").read_text(encoding="utf-8")
    assert "wmt14_en_de/base" in command("fit", "--help")
    assert (installed / "lit_transformer" / "py.typed").exists()


TYPES = {
    "lit_transformer.Translator.load('x').translate(['a'])": "list[str]",
    "lit_transformer.Translator.load('x').translate('a')": "str",
    "lit_transformer.LitTransformer.load_from_checkpoint('x')": "LitTransformer",
    "lit_transformer.TranslationData.load_from_checkpoint('x')": "TranslationData",
    "lit_transformer.__version__": "str",
}
"""Expressions and their types."""


@pytest.mark.slow
def test_types_are_visible_outside(installed: Path, tmp_path: Path) -> None:
    lines = ["import lit_transformer", *(f"reveal_type({expression})" for expression in TYPES), "lit_transformer.wrong"]
    (tmp_path / "user.py").write_text("\n".join(lines))
    check = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "user.py"]
    environment = os.environ | {"MYPYPATH": str(installed)}
    done = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = re.findall(r'^user\.py:(\d+): .*"([\w.\[\]]+)"', done.stdout, re.MULTILINE)
    names = {int(number): re.sub(r"\b(\w+\.)+", "", name) for number, name in found}
    assert names == dict(enumerate([*TYPES.values(), "wrong"], start=2)), done.stdout + done.stderr
