"""Text that makes scores misleading: known sentences, subwords, tokens."""

import itertools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset

from lit_transformer.data.built_in import find_built_in
from lit_transformer.data.quality import find_text_warnings, looks_tokenized, subword_warnings
from lit_transformer.data.text import PAIR_SCHEMA, Text, cached_text

Pairs = Sequence[tuple[str, str]]
TRAIN = [(f"sentence {number}", f"Satz {number}") for number in range(400)]
NEW = [(f"other {number}", f"anderer {number}") for number in range(400)]
numbers = itertools.count()


def text(folder: Path, pairs: Pairs) -> Text:
    rows = {"source": [source for source, _ in pairs], "target": [target for _, target in pairs]}
    path = folder / f"{next(numbers)}.arrow"
    return cached_text(path, lambda: [pa.record_batch(rows, schema=PAIR_SCHEMA)])


def warnings(folder: Path, train: Pairs, **held_out: Pairs) -> list[str]:
    texts = {split: text(folder, pairs) for split, pairs in held_out.items()}
    return find_text_warnings(text(folder, train), texts, cache_dir=folder)


def test_held_out_sentences_in_the_training_text_are_counted_with_the_first(tmp_path: Path) -> None:
    train = [*TRAIN, ("sentence 7", "noch ein Satz")]
    valid = [*NEW[:18], ("sentence 7", "noch ein Satz"), ("sentence 200", "etwas anderes")]
    [warning] = warnings(tmp_path, train, validation=valid, test=NEW)
    assert "2 of 20 validation sources" in warning
    assert "1 with the same target" in warning
    assert "validation pair 19 and training pair 8: sentence 7" in warning


@pytest.mark.parametrize("valid", [NEW, [*NEW, *TRAIN[:4]], [("", "leer")] * 40], ids=["none", "1 %", "empty"])
def test_few_known_sentences_are_silent(tmp_path: Path, valid: Pairs) -> None:
    assert warnings(tmp_path, [*TRAIN, ("", "leer")], validation=valid) == []


def test_the_text_is_read_once_for_one_content(tmp_path: Path) -> None:
    train, valid = text(tmp_path, TRAIN), text(tmp_path, TRAIN)
    first = find_text_warnings(train, {"validation": valid}, cache_dir=tmp_path)
    assert len(first) == 1

    def not_again() -> Dataset:
        raise AssertionError

    unread = [Text(each.fingerprint, not_again) for each in (train, valid)]
    assert find_text_warnings(unread[0], {"validation": unread[1]}, cache_dir=tmp_path) == first


def test_built_in_corpora_are_silent(tmp_path: Path) -> None:
    for name in ("demo:3000", "copy"):
        languages = {"source": "en", "target": "de", "cache_dir": tmp_path}
        train, valid, test = (find_built_in(name, split=split, **languages) for split in ("train", "valid", "test"))  # type: ignore[arg-type]
        assert find_text_warnings(train, {"validation": valid, "test": test}, cache_dir=tmp_path) == []


@pytest.mark.skipif(shutil.which("sed") is None, reason="there is no sed")
@pytest.mark.parametrize(
    ("sentence", "joined"),
    [
        ("the un@@ believ@@ able end", "the unbelievable end"),
        ("▁the ▁un believ able ▁end", "the unbelievable end"),
        ("the un￭ believ ￭able end ￭.", "the unbelievable end."),
    ],
)
def test_subwords_are_named_with_the_command_that_joins_them(tmp_path: Path, sentence: str, joined: str) -> None:
    pairs = [*TRAIN, *[(sentence, f"Satz {number}") for number in range(100)]]
    [warning] = warnings(tmp_path, pairs, validation=NEW)
    assert "20% of the training source" in warning
    command = warning[warning.index("sed ") :]
    done = subprocess.run(command, shell=True, input=f"{sentence}\n".encode(), capture_output=True, check=True)
    assert done.stdout.decode() == f"{joined}\n"
    assert subword_warnings({"test": [sentence, *["the end"] * 99]}) == []
    assert subword_warnings({"test": ["mail@@example.org", "1 @@@ 2", ""]}) == []


def test_one_warning_names_all_texts_with_subwords(tmp_path: Path) -> None:
    train, test = ([(f"{word}@@ done", "un@@ getan")] * 40 for word in ("un", "re"))
    [warning] = warnings(tmp_path, [*TRAIN, *train], validation=NEW, test=test)
    assert [name in warning for name in ("training source", "validation target", "test target")] == [True, False, True]


def test_tokenized_references_are_recognized() -> None:
    assert looks_tokenized(["Ein Hund .", "Er schläft .", "Er schläft"])
    assert not looks_tokenized(["Ein Hund.", "Er schläft ...", "Il dort !", "« Oui. »", ""])
    assert not looks_tokenized([])
