"""What a corpus string means. Every form in docs/corpora.md gives the same pairs."""

import json
import re
from io import BytesIO
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import HfApi
from pyarrow import parquet

from lit_transformer.data.corpus import has_splits, load_pairs
from lit_transformer.data.text import MissingSplit
from lit_transformer.errors import UserError
from tests.helpers.corpora import write_folder

ENGLISH = ["A dog runs.", 'He says: "Stop!", and waits.', "1e5", "null"]
GERMAN = ["Ein Hund läuft.", '"Halt!", sagt er, und wartet.', "007", "NA"]
PAIRS = list(zip(ENGLISH, GERMAN, strict=True))
EN, DE = ("".join(f"{line}\n" for line in side) for side in (ENGLISH, GERMAN))
TSV = "".join(f"{english}\t{german}\n" for english, german in PAIRS)
CSV = "".join(",".join('"' + text.replace('"', '""') + '"' for text in pair) + "\n" for pair in PAIRS)
JSONL = "".join(json.dumps({"en": english, "de": german}) + "\n" for english, german in PAIRS)


def parquet_bytes() -> bytes:
    file = BytesIO()
    parquet.write_table(pa.table({"en": ENGLISH, "de": GERMAN}), file)
    return file.getvalue()


Files = dict[str, str | bytes]
FORMS: dict[str, list[Files]] = {
    "corpora/mine": [
        {"mine/train.en": EN, "mine/train.de": DE},
        {"mine/train.en.gz": EN, "mine/train.de.zst": DE},
        {"mine/train.en.xz": EN, "mine/train.de.xz": DE},
    ],
    "corpora/iwslt": [
        {"iwslt/train.de-en.en": EN, "iwslt/train.de-en.de": DE},
        {"iwslt/train.en-de.en.gz": EN, "iwslt/train.en-de.de.gz": DE},
    ],
    "corpora/tables": [
        {"tables/train.tsv": f"en\tde\n{TSV}"},
        {"tables/train.csv.gz": f"en,de\n{CSV}"},
        {"tables/train.jsonl.zst": JSONL},
        {"tables/train.parquet": parquet_bytes()},
    ],
    "corpora/wmt14:de-en": [{"wmt14/de-en/train-00000-of-00001.parquet": parquet_bytes()}],
    "corpora/europarl-v7.de-en": [
        {"europarl-v7.de-en.en": EN, "europarl-v7.de-en.de": DE},
        {"europarl-v7.de-en.en.xz": EN, "europarl-v7.de-en.de.zst": DE},
    ],
    "corpora/all.src,corpora/all.tgt": [{"all.src": EN, "all.tgt": DE}],
    "corpora/pairs.tsv": [
        {"pairs.tsv": "de\tid\ten\n" + "".join(f"{de}\t7\t{en}\n" for en, de in PAIRS)},
        {"pairs.tsv": TSV},
    ],
    "corpora/pairs.csv": [{"pairs.csv": f"en,de\n{CSV}"}, {"pairs.csv": CSV}],
    "corpora/pairs.jsonl": [
        {"pairs.jsonl": JSONL},
        {"pairs.jsonl": "".join(json.dumps({"translation": {"en": en, "de": de}}) + "\n" for en, de in PAIRS)},
    ],
    "corpora/pairs.parquet": [{"pairs.parquet": parquet_bytes()}],
}
"""The forms of a corpus on this disk, each with the files that may stand for it in the folder `corpora`."""


def load(corpus: str, place: Path, split: str = "train") -> list[tuple[str, str]]:
    pairs = load_pairs(corpus, split=split, source="en", target="de", cache_dir=place / "cache")
    return list(zip(pairs["source"], pairs["target"], strict=True))


@pytest.mark.parametrize(("corpus", "files"), [(corpus, files) for corpus, each in FORMS.items() for files in each])
def test_every_form_gives_the_same_pairs(
    corpus: str, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        path = tmp_path / "corpora" / name
        write_folder(path.parent, {path.name: content})
    assert load(corpus, tmp_path) == PAIRS


@pytest.mark.parametrize("corpus", ["wmt/wmt14:de-en", "hf://datasets/wmt/wmt14:de-en", "hf:wmt/wmt14:de-en"])
def test_a_data_set_of_the_hub(corpus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[tuple[str, str | None]] = []

    def from_hub(name: str, configuration: str | None) -> DatasetDict:
        called.append((name, configuration))
        return DatasetDict(train=Dataset.from_dict({"translation": [{"en": en, "de": de} for en, de in PAIRS]}))

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: None)
    monkeypatch.setattr(datasets, "load_dataset", from_hub)
    assert load(corpus, tmp_path) == PAIRS
    assert called == [("wmt/wmt14", "de-en")]


def test_the_page_lists_these_forms(repo_root: Path) -> None:
    page = (repo_root / "docs" / "corpora.md").read_text(encoding="utf-8")
    examples = re.findall(r"^\|[^|`]*\| `([^|`]+)` \|.*\|.*\|$", page, re.MULTILINE)
    assert examples == ["demo", *FORMS, "wmt/wmt14:de-en"]


@pytest.mark.parametrize("name", ["valid", "validation", "val", "dev"])
@pytest.mark.parametrize("asked", ["valid", "validation", "val", "dev"])
@pytest.mark.parametrize("form", ["{}.en {}.de", "{}.de-en.en {}.de-en.de", "{}.tsv", "data/{}-00000-of-00001.jsonl"])
def test_names_of_the_validation_split(name: str, asked: str, form: str, tmp_path: Path) -> None:
    contents = [EN, DE] if " " in form else [f"en\tde\n{TSV}" if "tsv" in form else JSONL]
    for file, content in zip(form.format(name, name).split(), contents, strict=True):
        path = tmp_path / "corpus" / file
        write_folder(path.parent, {path.name: content})
    assert load(str(tmp_path / "corpus"), tmp_path, split=asked) == PAIRS


def test_other_files_do_not_make_a_folder_of_tables_a_text_folder(tmp_path: Path) -> None:
    """`README.de` and `model.en` are no pair."""
    folder = write_folder(tmp_path / "a", {"train.tsv": f"en\tde\n{TSV}", "README.de": "x\n", "model.en": "x\n"})
    assert load(str(folder), tmp_path) == PAIRS


def test_a_folder_with_text_files_and_tables(tmp_path: Path) -> None:
    """Text files come first, and a message about them does not take a table for a language."""
    folder = write_folder(
        tmp_path / "a", {"train.en": EN, "train.de": DE, "train.tsv": "en\tde\nx\ty\n", "test.tsv": ""}
    )
    assert load(str(folder), tmp_path) == PAIRS
    with pytest.raises(MissingSplit, match=r"'test' .* it has train;"):
        load(str(folder), tmp_path, split="test")


def test_a_link_that_leads_to_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for corpus in (f"{tmp_path}/link", f"{tmp_path}/link/folder"):
        with pytest.raises(UserError, match=f"the link {tmp_path}/link "):
            load(corpus, tmp_path)


def test_only_folders_and_data_sets_have_splits(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train.en": EN, "train.de": DE, "a.tsv": TSV})
    forms = {"demo": True, "wmt/wmt14:de-en": True, f"{tmp_path}": True, f"{tmp_path}/train": False}
    forms |= {f"{tmp_path}/a.tsv": False, f"{tmp_path}/train.en,{tmp_path}/train.de": False}
    assert {corpus: has_splits(corpus, source="en", target="de") for corpus in forms} == forms


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["train.en", "train.tsv"])
def test_a_damaged_compressed_file_is_named(name: str, suffix: str, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {f"{name}{suffix}": "a\tb\n" * 9999, "train.de": "b\n" * 9999})
    path = folder / f"{name}{suffix}"
    data = path.read_bytes()
    middle = len(data) // 2
    for damaged in (data[:-5], data[:middle] + b"\xff" * 9 + data[middle + 9 :], b"no compressed data"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=re.escape(str(path))) as error:
            load(f"{folder}/{'train' if name == 'train.en' else path.name}", tmp_path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        ("corpora/mone", r"corpora/mone .*corpora/mine\?"),
        ("./corpora/mone", r"corpora/mone .*corpora/mine\?"),
        ("copora/mine", r"copora .*\./corpora|copora .*corpora\?"),
        ("corpora/mine/train.en,corpora/mine/train.fr", r"no file or folder corpora/mine/train\.fr"),
        ("corpora/mine/train.de,corpora/mine/train.en", r"corpora/mine/train\.en,corpora/mine/train\.de"),
        ("corpora/mine/train.en", r"corpora/mine/train\.en .*SPLIT\.LANG"),
        ("corpora/half", r"/half\.en .*/half\.de"),
        ("https://example.org/pairs.tsv", r"https://example\.org/pairs\.tsv .*download"),
        ("s3://bucket/pairs.tsv", r"s3://bucket/pairs\.tsv .*download"),
    ],
)
def test_what_is_not_there_is_named(corpus: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a string that may be the name of a data set. The Hub is asked and does not answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    write_folder(tmp_path / "corpora" / "mine", {"train.en": EN, "train.de": DE})
    write_folder(tmp_path / "corpora", {"half.en": EN})
    with pytest.raises(UserError, match=message):
        load(corpus, tmp_path)


def sources(corpus: str, place: Path) -> list[str]:
    return [source for source, _ in load(corpus, place, split="valid")]


def test_what_a_corpus_string_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    names = ("demo:3", "demo", "copy")
    builtin = {name: sources(name, tmp_path) for name in names}
    for name in ("demo", "demo:3", "copy", "mine"):
        write_folder(tmp_path / name, {"valid.en": name, "valid.de": "meins"})
        assert sources(f"./{name}", tmp_path) == [name]
        assert sources(f"~/{name}", tmp_path) == [name]
    assert {name: sources(name, tmp_path) for name in names} == builtin
    assert sources("mine", tmp_path) == ["mine"]  # an existing folder wins
    for missing in ("./nowhere", "/nowhere/at:all", "~/nowhere"):
        with pytest.raises(UserError, match=r"corpus .*nowhere"):
            load(missing, tmp_path)
    with pytest.raises(UserError, match=r"corpus demo/valid\.en .*SPLIT\.LANG"):
        load("demo/valid.en", tmp_path)
    with pytest.raises(UserError, match="corpus is empty"):
        load("", tmp_path)


def test_languages_and_configurations_that_do_not_fit(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {"train.en": "a", "train.de": "b"})
    with pytest.raises(UserError, match=r"text:de-en: .*leave out `:de-en`"):
        load(f"{folder}:de-en", tmp_path)
    with pytest.raises(UserError, match="source and target are both en"):
        load_pairs(str(folder), split="train", source="en", target="en", cache_dir=tmp_path)


@pytest.mark.parametrize("corpus", ["demo:5", "text", "tables"])
def test_a_cache_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], corpus: str
) -> None:
    """Scoring works in a container without a writable place."""
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "text", {"train.en": "a\nc\n", "train.de": "b\nd\n"})
    write_folder(tmp_path / "tables", {"train.tsv": "en\tde\na\tb\nc\td\n", "file": ""})
    about = {"split": "train", "source": "en", "target": "de"}
    expected = load_pairs(corpus, cache_dir=tmp_path / "cache", **about).to_dict()
    capsys.readouterr()
    unwritable = tmp_path / "tables" / "file" / "cache"
    assert load_pairs(corpus, cache_dir=unwritable, **about).to_dict() == expected
    err = capsys.readouterr().err
    assert err.startswith("note: ")
    assert "file/cache" in err
