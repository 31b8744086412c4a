"""Recipes: all train, all variants fit over another recipe, and names are found from any folder."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import dict_to_namespace

from lit_transformer import fit
from lit_transformer.cli.recipes import recipe_path, recipes
from lit_transformer.cli.training import FitCLI, parse
from lit_transformer.errors import UserError

VARIANTS = [name for name in recipes() if name.startswith("variants/")]
WHOLE = [name for name in recipes() if name not in VARIANTS]


def content(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load(recipes()[name].read_text(encoding="utf-8"))
    return read


@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_trains(name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small model on a small corpus in its languages."""
    monkeypatch.chdir(tmp_path)
    data = content(name).get("data", {})
    languages = [data.get("source", "en"), data.get("target", "de")]
    (tmp_path / "corpus").mkdir()
    for split in ("train", "valid"):
        for language, original in zip(languages, ("en", "de"), strict=True):
            shutil.copy(corpus / f"{split}.{original}", tmp_path / "corpus" / f"{split}.{language}")
    small = {
        "model.transformer.d_model": 16,
        "model.transformer.d_ff": 16,
        "model.transformer.num_heads": 2,
        "model.transformer.num_layers": 1,
        "model.vocab_size": 200,
        "data.corpus": "corpus",
        "data.cache_dir": "cache",
        "trainer.accelerator": "cpu",
        "trainer.devices": 1,
        "trainer.precision": "32-true",
        "trainer.default_root_dir": "runs",
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 2,
    }
    if content(name).get("task") == "image_classification":  # digits are small
        del small["model.vocab_size"], small["data.corpus"]
    fit.main(["--config", name, *(part for option, value in small.items() for part in (f"--{option}", str(value)))])
    (run,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in (run / "checkpoints").iterdir()} >= {"step-00000002.ckpt"}


def settings(*names: str, root: Path) -> dict[str, Any]:
    args = [f"--config={name}" for name in names]
    config = parse([*args, f"--trainer.default_root_dir={root}", "--devices=1"], FitCLI).config
    linked = ("config", "data.max_positions")
    return {name: value for name, value in vars(config.as_flat()).items() if name not in linked}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_only_what_it_names(name: str, tmp_path: Path) -> None:
    changes = vars(dict_to_namespace(content(name)).as_flat())
    assert settings("demo", name, root=tmp_path) == settings("demo", root=tmp_path) | changes
    assert len(changes) < 4


def test_a_file_comes_before_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()  # such as a corpus
    assert Path(recipe_path("demo")).is_absolute()
    Path("copy").write_text("model: {}")
    assert recipe_path("copy") == "copy"
    assert recipe_path("{model: {vocab_size: 9}}") == "{model: {vocab_size: 9}}"


@pytest.mark.parametrize("name", ["dmo", "wmt14_en_de/bas", "x" * 5000, "\0"])
def test_an_unknown_name_lists_the_recipes(name: str) -> None:
    with pytest.raises(UserError) as raised:
        recipe_path(name)
    assert all(known in str(raised.value) for known in [name, *recipes()])
