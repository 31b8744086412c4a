"""The generated corpora are found by name, in either direction."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from lit_transformer.data.built_in import find_built_in
from lit_transformer.data.copy_task import copy_pairs
from lit_transformer.data.demo.corpus import demo_pairs
from lit_transformer.data.text import sentences
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError


def load(corpus: str, cache_dir: Path, split: str = "train", languages: str = "en-de") -> Dataset:
    source, target = languages.split("-")
    return find_built_in(corpus, split=split, source=source, target=target, cache_dir=cache_dir).load()


def test_the_demo_corpus_has_two_directions_and_any_size(tmp_path: Path) -> None:
    forward = load("demo:7", tmp_path)
    backward = load("demo:7", tmp_path, languages="de-en")
    assert len(forward) == 7
    assert forward["source"][:] == backward["target"][:] != backward["source"][:]
    assert len(load("demo:7", tmp_path, split="validation")) == len(load("demo", tmp_path, split="val")) > 7


def test_a_corpus_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = partial(find_built_in, "demo:7", split="train", source="en", target="de", cache_dir=tmp_path)
    first, pairs = find(), load("demo:7", tmp_path)[:]
    generated = []

    def count(split: str, **arguments: Any) -> Any:
        generated.append(split)
        return demo_pairs(split, **arguments)

    monkeypatch.setattr("lit_transformer.data.built_in.demo_pairs", count)
    again = find()
    assert again.fingerprint == first.fingerprint
    assert again.load()[:] == pairs
    assert not generated
    for file in (tmp_path / "built_in").glob("*.arrow"):
        file.unlink()
    assert find().load()[:] == pairs
    assert generated == ["train"]
    assert len(load("demo:5", tmp_path)) == 5
    assert generated == ["train", "train"]


def test_the_copy_task_has_a_vocabulary_of_ten_digits(tmp_path: Path) -> None:
    pairs = load("copy", tmp_path, split="validation", languages="xx-yy")
    assert list(zip(pairs["source"], pairs["target"], strict=True)) == copy_pairs("valid")
    tokenizer = Tokenizer.train(sentences(pairs), vocab_size=25, character_coverage=1.0)  # as in experiments/copy.yaml
    assert {len(ids) for ids in tokenizer.encode(pairs["source"][:])} == {10}
    with pytest.raises(UserError, match=r"vocab_size is 26\b.* 25$"):
        Tokenizer.train(sentences(pairs), vocab_size=26, character_coverage=1.0)


@pytest.mark.parametrize(
    ("corpus", "split", "languages", "named"),
    [
        ("copy:5", "train", "en-de", "copy:5"),
        ("copy", "unseen", "en-de", "'unseen'.* train, valid, test$"),
        ("demo", "new", "en-de", "'new'.* train, valid, test, unseen$"),
        ("demo", "train", "en-fr", "source and target are en and fr"),
        *[(corpus, "train", "en-de", f"{corpus}: .*demo:50000") for corpus in ("demo:", "demo:x", "demo:0", "demo:-3")],
    ],
)
def test_mistakes_are_named(corpus: str, split: str, languages: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=named):
        load(corpus, tmp_path, split, languages)
