"""What a corpus string means."""

from pathlib import Path

import pytest
from datasets import Dataset

from lit_transformer.data.corpus import load_pairs
from lit_transformer.errors import UserError
from tests.helpers.corpora import write_folder


def load(corpus: str | Path, cache_dir: Path, split: str = "train", languages: str = "en-de") -> Dataset:
    source, target = languages.split("-")
    return load_pairs(str(corpus), split=split, source=source, target=target, cache_dir=cache_dir)


def test_what_a_corpus_string_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ("demo:3", "demo", "copy")
    builtin = {name: load(name, tmp_path / "cache", split="valid")["source"][:] for name in names}
    for name in ("demo", "demo:3", "copy", "mine"):
        write_folder(tmp_path / name, {"valid.en": name, "valid.de": "meins"})
        assert load(f"./{name}", tmp_path / "cache", split="valid")["source"][:] == [name]
        assert load(f"~/{name}", tmp_path / "cache", split="valid")["source"][:] == [name]
    assert {name: load(name, tmp_path / "cache", split="valid")["source"][:] for name in names} == builtin
    assert load("mine", tmp_path / "cache", split="valid")["source"][:] == ["mine"]  # an existing folder wins
    for missing in ("./nowhere", "/nowhere/at:all", "~/nowhere"):
        with pytest.raises(UserError, match=r"corpus .*nowhere"):
            load(missing, tmp_path / "cache")
    with pytest.raises(UserError, match=r"corpus demo/valid\.en is a file"):
        load("demo/valid.en", tmp_path / "cache")
    with pytest.raises(UserError, match="corpus is empty"):
        load("", tmp_path / "cache")


def test_languages_and_configurations_that_do_not_fit(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {"train.en": "a", "train.de": "b"})
    with pytest.raises(UserError, match=r"text:de-en: .*leave out `:de-en`"):
        load(f"{folder}:de-en", tmp_path)
    with pytest.raises(UserError, match="source and target are both en"):
        load(folder, tmp_path, languages="en-en")
