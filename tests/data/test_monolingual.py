"""Text of one language, from every form of a corpus."""

import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import HfApi

from lit_transformer.data.monolingual import find_lines
from lit_transformer.data.splits import find_line_splits
from lit_transformer.data.text import MissingSplit
from lit_transformer.errors import UserError
from tests.data.test_corpus import CSV, EN, ENGLISH, FORMS, GERMAN, JSONL, TSV, Files
from tests.helpers.corpora import write_folder


def lines(corpus: str, folder: Path, *, split: str = "train", language: str = "en") -> list[str]:
    text = find_lines(corpus, split=split, language=language, cache_dir=folder / "cache")
    dataset = text.load()
    assert dataset.column_names == ["text"]
    return list(dataset["text"])


def write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        write_folder((folder / "corpora" / name).parent, {Path(name).name: content})


@pytest.mark.parametrize(("language", "expected"), [("en", ENGLISH), ("de", GERMAN)])
@pytest.mark.parametrize(("corpus", "files"), [(corpus, files) for corpus, each in FORMS.items() for files in each])
def test_one_side_of_every_form(
    corpus: str, files: Files, language: str, expected: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forms whose columns or files have no names cannot say which language they are."""
    write(tmp_path, files)
    monkeypatch.chdir(tmp_path)
    if any(content in (TSV, CSV) for content in files.values()):
        with pytest.raises(MissingSplit, match=r":1: .*header"):
            lines(corpus, tmp_path, language=language)
    elif "," in corpus and not corpus.endswith((".en", ".de")):
        with pytest.raises(UserError, match=f"{language}: give one of them"):
            lines(corpus, tmp_path, language=language)
    else:
        assert lines(corpus, tmp_path, language=language) == expected


def test_a_folder_with_one_language(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {"train.en": EN, "valid.en.gz": EN, "test.en": "One.\n"})
    assert lines(str(folder), tmp_path) == lines(str(folder), tmp_path, split="dev") == ENGLISH
    assert lines(str(folder), tmp_path, split="test") == ["One."]
    with pytest.raises(MissingSplit, match=r"train\.de"):
        lines(str(folder), tmp_path, language="de")
    with pytest.raises(MissingSplit, match=r"other\.en"):
        lines(str(folder), tmp_path, split="other")


def test_a_split_with_two_pairs_of_languages_is_ambiguous(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {"train.en-de.en": EN, "train.en-fr.en": EN, "train.en-fr.fr": EN})
    with pytest.raises(UserError, match="more than once"):
        lines(str(folder), tmp_path)
    assert lines(str(folder), tmp_path, language="fr") == ENGLISH


def test_one_text_file_in_any_language(tmp_path: Path) -> None:
    write_folder(tmp_path, {"all.txt": EN})
    assert lines(str(tmp_path / "all.txt"), tmp_path, language="xx") == ENGLISH
    write_folder(tmp_path, {"empty.txt": ""})
    with pytest.raises(UserError, match=r"empty\.txt is empty"):
        lines(str(tmp_path / "empty.txt"), tmp_path)


@pytest.mark.parametrize("layout", ["parquet", "save_to_disk", "jsonl", "csv", "tsv"])
def test_a_copy_of_a_hub_text_set_has_a_column_text(layout: str, tmp_path: Path) -> None:
    splits = {"train": ENGLISH, "test": ["One."]}
    folder = tmp_path / "set"
    folder.mkdir()
    rows: dict[str, dict[str, Any]] = {
        split: {"text": texts, "label": [5] * len(texts)} for split, texts in splits.items()
    }
    for split, columns in rows.items():
        match layout:
            case "parquet":
                Dataset.from_dict(columns).to_parquet(folder / f"{split}-00000-of-00001.parquet")
            case "jsonl":
                objects = [{"text": text, "label": 5} for text in columns["text"]]
                write_folder(folder, {f"{split}.jsonl": "".join(json.dumps(each) + "\n" for each in objects)})
            case "csv":
                quoted = ['"' + text.replace('"', '""') + '",5\n' for text in splits[split]]
                write_folder(folder, {f"{split}.csv": "text,label\n" + "".join(quoted)})
            case "tsv":
                write_folder(folder, {f"{split}.tsv": "text\tlabel\n" + "".join(f"{t}\t5\n" for t in splits[split])})
    if layout == "save_to_disk":
        DatasetDict({split: Dataset.from_dict(columns) for split, columns in rows.items()}).save_to_disk(folder)
    assert lines(str(folder), tmp_path) == ENGLISH
    assert lines(str(folder), tmp_path, split="test") == ["One."]


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ENGLISH, "label": [5] * 4},
        {"en": ENGLISH, "text": GERMAN},
        {"translation": [{"en": e} for e in ENGLISH]},
    ],
)
def test_a_text_set_of_the_hub(columns: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *_: DatasetDict(train=Dataset.from_dict(columns)))
    assert lines("owner/set", tmp_path) == ENGLISH
    if "text" not in columns:
        with pytest.raises(MissingSplit, match="fr"):
            lines("owner/set", tmp_path, language="fr")


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    write_folder(tmp_path, {"pairs.jsonl": JSONL, "numbers.jsonl": '{"text": 5}\n'})
    with pytest.raises(UserError, match=r"language is fr.*de, en.*`text`"):
        lines(str(tmp_path / "pairs.jsonl"), tmp_path, language="fr")
    with pytest.raises(UserError, match="text is a number"):
        lines(str(tmp_path / "numbers.jsonl"), tmp_path)


def test_the_demo_corpus_has_two_languages(tmp_path: Path) -> None:
    english, german = (lines("demo:50", tmp_path, language=language) for language in ("en", "de"))
    assert len(english) == len(german) == 50
    assert set(english).isdisjoint(german)
    with pytest.raises(UserError, match="language is fr"):
        lines("demo", tmp_path, language="fr")


def test_lines_are_held_out_of_a_single_file(tmp_path: Path) -> None:
    write_folder(tmp_path, {"all.txt": EN + "a dog runs.\n"})
    corpus, cache_dir = str(tmp_path / "all.txt"), tmp_path / "cache"

    def splits(valid_lines: int, valid_corpus: str | None = None) -> list[list[str]]:
        found = find_line_splits(
            corpus, valid_corpus=valid_corpus, valid_lines=valid_lines, language="en", cache_dir=cache_dir
        )
        assert found.test is None
        return [list(text.load()["text"]) for text in (found.train, found.valid)]

    train, valid = splits(2)
    assert sorted(train + valid) == sorted([*ENGLISH, "a dog runs."])
    assert len(valid) == 2
    assert {"A dog runs.", "a dog runs."} <= set(train) or {"A dog runs.", "a dog runs."} == set(valid)
    for number in (0, 99):
        with pytest.raises(UserError, match="valid_lines"):
            splits(number)
    with pytest.raises(UserError, match="leave out one"):
        splits(2, corpus)
    assert splits(0, corpus)[1] == [*ENGLISH, "a dog runs."]


def test_types_of_columns_are_checked(tmp_path: Path) -> None:
    Dataset(pa.table({"text": [1.5]})).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(UserError, match=r"text columns .* none"):
        lines(str(tmp_path / "train.parquet"), tmp_path)
