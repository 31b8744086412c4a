import gzip
import os
from itertools import pairwise
from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features, Translation, Value
from huggingface_hub import HfApi
from hypothesis import given
from hypothesis import strategies as st

from lit_transformer.data import corpus as corpus_module
from lit_transformer.data import text_folder
from lit_transformer.data.corpus import find_text, load_pairs, sentences
from lit_transformer.data.text_folder import Text
from lit_transformer.errors import UserError


def load(corpus: str | Path, cache_dir: Path, split: str = "train", languages: str = "en-de") -> Dataset:
    source, target = languages.split("-")
    return load_pairs(str(corpus), split=split, source=source, target=target, cache_dir=cache_dir)


def find(folder: Path, cache_dir: Path) -> Text:
    return find_text(str(folder), split="train", source="en", target="de", cache_dir=cache_dir)


def write_folder(folder: Path, files: dict[str, str | bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return folder


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    odd = "a\x85b\u2028c\x0bd\x0ce\rf\x00g\U0001f600\u200b \u05d0"
    folder = write_folder(
        tmp_path / "text", {"train.en": f"\ufeff{odd}\n\nlast", "train.de.gz": "eins\r\nzwei\ndrei\r"}
    )
    pairs = load(folder, tmp_path)
    assert pairs["source"][:] == [odd, "", "last"]
    assert pairs["target"][:] == ["eins", "zwei", "drei"]
    assert load(folder, tmp_path, languages="de-en")["source"][:] == ["eins", "zwei", "drei"]
    assert list(sentences(pairs))[:4] == [odd, "eins", "", "zwei"]


@given(
    lines=st.lists(st.tuples(st.text(max_size=7), st.text(max_size=7)), min_size=1, max_size=11),
    block_bytes=st.integers(5, 13),
    final_newline=st.booleans(),
)
def test_blocks_do_not_change_the_lines(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[tuple[str, str]],
    block_bytes: int,
    final_newline: bool,
) -> None:
    """Blocks of a few bytes cut characters, CRLF and lines everywhere; surrogates are left out."""
    sides = [
        [text.encode("utf-8", "ignore").decode().replace("\n", "").lstrip("\ufeff") for text in side]
        for side in zip(*lines, strict=True)
    ]
    sides = [[*side[:-1], side[-1] or "x"] for side in sides]
    end = "\n" if final_newline else ""
    tmp_path = tmp_path_factory.mktemp("blocks")
    folder = write_folder(tmp_path, {"train.en": "\n".join(sides[0]) + end, "train.de": "\r\n".join(sides[1]) + end})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_folder, "_BLOCK_BYTES", block_bytes)
        pairs = load(folder, tmp_path)
    # One carriage return before a line feed, or at the end, belongs to the line's end.
    assert pairs["source"][:] == [line.removesuffix("\r") for line in sides[0]]
    assert pairs["target"][:] == [*sides[1][:-1], sides[1][-1].removesuffix("\r")]


@pytest.mark.parametrize("large", [False, True])
def test_cache_follows_the_content_and_is_memory_mapped(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_folder, "LARGE_FILE_BYTES", 0 if large else 2**30)
    folder = write_folder(tmp_path / "text", {"train.en": "a\nb\n", "train.de": "c\nd\n"})
    first = load(folder, tmp_path / "cache")
    [file] = first.cache_files
    written = Path(file["filename"]).stat().st_mtime_ns
    copy = write_folder(tmp_path / "copy", {"train.en": "a\nb\n", "train.de": "c\nd\n"})
    assert load(copy, tmp_path / "cache").cache_files == [file]
    assert Path(file["filename"]).stat().st_mtime_ns == written
    times = (folder / "train.de").stat()
    (folder / "train.de").write_text("c\ne\n")
    os.utime(folder / "train.de", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load(folder, tmp_path / "cache")["target"][:] == ["c", "e"]


def test_large_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_folder(tmp_path / "text", {"train.en": "a\nb\n" * 9, "train.de": "c\nd\n" * 9})
    expected = find(folder, tmp_path / "cache").fingerprint
    monkeypatch.setattr(text_folder, "LARGE_FILE_BYTES", 36)
    first = find(folder, tmp_path / "cache")
    assert first.fingerprint == expected
    assert first.load()["target"][:] == ["c", "d"] * 9
    with monkeypatch.context() as patch:
        patch.setattr(text_folder.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert find(folder, tmp_path / "cache").fingerprint == expected
    (folder / "train.de").write_text("c\ne\n" * 9)
    assert find(folder, tmp_path / "cache").load()["target"][:] == ["c", "e"] * 9


def test_failed_reading_leaves_no_cache(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {"train.en": "a\nb\n", "train.de": b"c\n\xff\n"})
    with pytest.raises(UserError):
        load(folder, tmp_path / "cache")
    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {".lock"}


@pytest.mark.parametrize("name", ["valid", "validation", "val"])
@pytest.mark.parametrize("asked", ["valid", "validation", "val"])
def test_three_names_of_the_validation_split(tmp_path: Path, name: str, asked: str) -> None:
    folder = write_folder(tmp_path / "text", {f"{name}.en": "a", f"{name}.de": "b"})
    assert load(folder, tmp_path, split=asked)["source"][:] == ["a"]


@pytest.mark.parametrize(
    ("files", "split", "languages", "message"),
    [
        ({}, "train", "en-de", r"no split 'train' in en and de: there are none; add the files train\.en"),
        (
            {"train.en": "a", "train.de": "b", "README.md": "c"},
            "test",
            "en-de",
            r"no split 'test'.*are train;",
        ),
        ({"train.en": "a", "train.de": "b"}, "train", "en-fr", r"no file train\.fr: .*there in de, en; add"),
        ({"train.en": "a"}, "train", "en-de", r"no file train\.de: split 'train' is there in en;"),
        ({"train.en": "", "train.de": "b"}, "train", "en-de", r"train\.en is empty"),
        ({"train.en": "a\nb", "train.de": "c"}, "train", "en-de", r"train\.en has 2 lines but .*\.de has 1:"),
        ({"train.en": "a\nb", "train.de": b"c\nd\xe4\n"}, "train", "en-de", r"train\.de:2: invalid UTF-8"),
    ],
)
def test_user_errors_of_folders(
    tmp_path: Path, files: dict[str, str | bytes], split: str, languages: str, message: str
) -> None:
    folder = write_folder(tmp_path / "text", files)
    with pytest.raises(UserError, match=message) as error:
        load(folder, tmp_path, split, languages)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_gzip_and_unreadable_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {"train.en.gz": "a\n" * 9999, "train.de": "b\n" * 9999})
    data = (folder / "train.en.gz").read_bytes()
    for broken in (data[:-20], b"no gzip", data[:11] + b"\xff" * 9 + data[20:]):
        (folder / "train.en.gz").write_bytes(broken)
        with pytest.raises(UserError, match=r"train\.en\.gz is not a complete gzip file"):
            load(folder, tmp_path)
    (folder / "train.de").unlink()
    (folder / "train.de").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*train\.de: Is a directory"):
        load(folder, tmp_path)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {"train.en": "a", "train.de": "b"})
    with pytest.raises(UserError, match=r"cannot write the cache .*--data\.cache_dir"):
        load(folder, folder / "train.en")


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
        with pytest.raises(UserError, match=r"folder .*nowhere.* does not exist"):
            load(missing, tmp_path / "cache")
    with pytest.raises(UserError, match=r"is a file"):
        load("demo/valid.en", tmp_path / "cache")
    with pytest.raises(UserError, match=r"is empty"):
        load("", tmp_path / "cache")


def test_demo(tmp_path: Path) -> None:
    forward = load("demo:7", tmp_path)
    backward = load("demo:7", tmp_path, languages="de-en")
    assert len(forward) == 7
    assert forward["source"][:] == backward["target"][:] != backward["source"][:]
    assert len(load("demo:7", tmp_path, split="validation")) == len(load("demo", tmp_path, split="val")) > 7
    with pytest.raises(UserError, match=r"demo corpus is English-German"):
        load("demo", tmp_path, languages="en-fr")
    with pytest.raises(UserError, match=r"no split 'dev': there are train, valid, test, unseen"):
        load("demo", tmp_path, split="dev")
    for wrong in ("demo:", "demo:x", "demo:0", "demo:-3"):
        with pytest.raises(UserError, match=r"is a number of training pairs"):
            load(wrong, tmp_path)


ROWS = [{"de": "Hallo", "en": "Hello"}, {"de": None, "en": "Nothing"}, {"de": "Ja", "en": "Yes"}]
STRUCT = Features({"translation": Translation(["de", "en"])})
COLUMNS = Features({"id": Value("int64"), "en": Value("large_string"), "de": Value("string")})


@pytest.mark.parametrize("layout", ["struct", "columns"])
def test_copy_of_a_hub_data_set(tmp_path: Path, layout: str) -> None:
    if layout == "struct":
        data = Dataset.from_dict({"translation": ROWS}, features=STRUCT)
    else:
        data = Dataset.from_list([{"id": 5, **row} for row in ROWS], features=COLUMNS)
    for split in ("train", "validation"):
        data.to_parquet(str(tmp_path / "copy/data" / f"{split}-00000-of-00001.parquet"))
    (tmp_path / "copy/README.md").write_text("# A data set\n")
    for split in ("train", "valid"):
        pairs = load(tmp_path / "copy", tmp_path / "cache", split=split)
        assert pairs.features == Features({"source": Value("string"), "target": Value("string")})
        assert pairs[:] == {"source": ["Hello", "Nothing", "Yes"], "target": ["Hallo", "", "Ja"]}
    with pytest.raises(UserError, match=r"no text in 'fr' \(--data\.target\): there are (de, en|en, de)"):
        load(tmp_path / "copy", tmp_path / "cache", languages="en-fr")
    with pytest.raises(UserError, match=r"no split 'test': there are train, validation"):
        load(tmp_path / "copy", tmp_path / "cache", split="test")
    with pytest.raises(UserError, match=r"has no configuration 'xx-yy': what follows the colon"):
        load(f"{tmp_path / 'copy'}:xx-yy", tmp_path / "cache")


@pytest.mark.parametrize("missing", [None, "Nothing"])
def test_text_of_the_hub_is_validated_where_it_is_read(
    missing: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rank finds it at every start; only who prepares it reads it."""
    rows = [{"de": "Hallo", "en": "Hello"}, {"de": missing, "en": "Nothing"}]
    Dataset.from_dict({"translation": rows}, features=STRUCT).to_parquet(str(tmp_path / "copy/train.parquet"))
    find(tmp_path / "copy", tmp_path / "cache")
    validated: list[object] = []
    validate = datasets.table.Table.validate
    monkeypatch.setattr(
        datasets.table.Table, "validate", lambda *args, **options: validated.append(validate(*args, **options))
    )
    text = find(tmp_path / "copy", tmp_path / "cache")
    assert not validated
    assert text.load()["target"][:] == ["Hallo", missing or ""]
    assert len(validated) == 1


def test_copies_with_configurations_and_from_save_to_disk(tmp_path: Path) -> None:
    data = Dataset.from_dict({"translation": ROWS[:1]}, features=STRUCT)
    data.to_parquet(str(tmp_path / "wmt/de-en/train-00000-of-00001.parquet"))
    card = "---\nconfigs:\n- config_name: de-en\n  data_files:\n  - split: train\n    path: de-en/train-*\n---\n"
    (tmp_path / "wmt/README.md").write_text(card)
    DatasetDict(train=data).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / ".cache" / "huggingface").mkdir(parents=True)  # what `hf download` leaves
    for corpus in (f"{tmp_path}/wmt:de-en", f"{tmp_path}/saved"):
        assert load(corpus, tmp_path / "cache")[:] == {"source": ["Hello"], "target": ["Hallo"]}


@pytest.mark.parametrize(
    ("names", "corpus"),
    [
        (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], ""),
        (["train-00000-of-00002-0a1b2c3d.parquet", "train-00001-of-00002-4e5f6a7b.parquet"], ""),
        (["train/0000.parquet", "train/0001.parquet"], ""),
        (["de-en/train/0000.parquet", "de-en/train/0001.parquet", "fr-en/train/0000.parquet"], ":de-en"),
        (["de-en/train.jsonl", "fr-en/train.jsonl", "fr-en/test.jsonl"], ":de-en"),
        (["a [b]*/train.csv", "a [b]*/test.csv", ".cache/huggingface/train.csv"], ""),
        (["train.tsv", "state.json"], ""),
    ],
)
def test_layouts_of_copies(tmp_path: Path, names: list[str], corpus: str) -> None:
    data = Dataset.from_dict({"en": ["a\tb"], "de": ["b"]})
    for name in names:
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match path.suffix:
            case ".parquet":
                data.to_parquet(path)
            case ".csv" | ".tsv":
                data.to_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
            case _:
                data.to_json(path)
    pairs = load(f"{tmp_path / 'copy'}{corpus}", tmp_path / "cache")
    shards = sum("train" in name and (not corpus or corpus[1:] in name) and name[0] != "." for name in names)
    assert pairs[:] == {"source": ["a\tb"] * shards, "target": ["b"] * shards}


def test_a_split_is_never_chosen_among_several(tmp_path: Path) -> None:
    data = Dataset.from_dict({"en": ["a"], "de": ["b"]})
    for name in ("v1/train.parquet", "v2/train.parquet"):
        data.to_parquet(tmp_path / "copy" / name)
    with pytest.raises(UserError, match=r"'train' more than once \(v1/\*\.parquet, v2/\*\.parquet\): give a folder"):
        load(tmp_path / "copy", tmp_path / "cache")
    data.to_csv(tmp_path / "copy/v1/train.csv")
    with pytest.raises(UserError, match=r"more than once \(\./\*\.csv, \./\*\.parquet\): .* keep one kind"):
        load(f"{tmp_path}/copy:v1", tmp_path / "cache")


LAUGHS = "a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{former}'] * 9)}]\n" for former, name in pairwise("abcdefghijkl")
)
"""A few hundred bytes of YAML that stand for 9^12 words."""


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml", "dataset_infos.json"])
@pytest.mark.parametrize(
    "text",
    [LAUGHS + "configs:\n- config_name: default\n  data_files: *l\n", "configs: [" * 9999, "configs: {", "a: 1\n" * 9],
)
def test_cards_are_not_read(tmp_path: Path, card: str, text: str) -> None:
    Dataset.from_dict({"en": ["a"], "de": ["b"]}).to_parquet(tmp_path / "copy/train.parquet")
    (tmp_path / "copy" / card).write_text(text if card.endswith(".yaml") else f"---\n{text}---\n")
    assert load(tmp_path / "copy", tmp_path / "cache")["source"][:] == ["a"]


def test_damaged_copy_and_configuration_of_a_text_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "copy", {"train.parquet": b"PAR1 and no more"})
    with pytest.raises(UserError, match=r"cannot be read as a copy of a Hub data set") as error:
        load(tmp_path / "copy", tmp_path / "cache")
    assert "\n" not in str(error.value)
    write_folder(tmp_path / "text", {"train.en": "a", "train.de": "b"})
    with pytest.raises(UserError, match=r"leave out `:de-en`"):
        load(f"{tmp_path}/text:de-en", tmp_path)


def test_hub_that_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that names the corpus and the ways without network; `load_dataset` is not asked."""

    def unreachable(*arguments: object, **options: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **options: pytest.fail("asked the Hub"))
    expected = r"cannot reach the Hugging Face Hub for corpus 'wmt/wmt14' \({}.*\): .*`demo`.*SPLIT\.LANG.*copy"
    with pytest.raises(UserError, match=expected.format("Name or service")) as error:
        load("wmt/wmt14:de-en", tmp_path)
    assert "\n" not in str(error.value)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=expected.format("offline mode")):
        load("wmt/wmt14:de-en", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"neither an existing folder nor the name of a Hub data set"):
        load("no/such/thing", tmp_path)


def test_hub_data_set_in_the_cache_is_used_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def cached(name: str, configuration: str | None) -> DatasetDict:
        calls.append((name, configuration))
        return DatasetDict(train=Dataset.from_dict({"translation": ROWS[:1]}, features=STRUCT))

    (tmp_path / "owner___some_set").mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(corpus_module.datasets, "load_dataset", cached)
    assert load("owner/some_set:de-en", tmp_path)["target"][:] == ["Hallo"]
    assert calls == [("owner/some_set", "de-en")]


def test_multi30k(shared_data: Path, tmp_path: Path) -> None:
    for folder, split, num_pairs in (("multi30k", "valid", 1014), ("multi30k_tok", "train", 29_000)):
        pairs = load(shared_data / folder, tmp_path, split=split)
        assert len(pairs) == num_pairs
    words = [sum(len(text.split()) for text in pairs[column]) for column in ("source", "target")]
    assert words == [377_534, 360_706]
