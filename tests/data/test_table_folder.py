"""Copies of Hub data sets: every layout is read, and no data card."""

import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from lit_transformer.data.corpus import load_pairs
from lit_transformer.errors import UserError
from tests.helpers.corpora import write_folder


def load(corpus: str | Path, cache_dir: Path, split: str = "train") -> Dataset:
    return load_pairs(str(corpus), split=split, source="en", target="de", cache_dir=cache_dir)


def test_copies_with_configurations_and_from_save_to_disk(tmp_path: Path) -> None:
    data = Dataset.from_dict({"translation": [{"de": "Hallo", "en": "Hello"}]})
    data.to_parquet(str(tmp_path / "wmt/de-en/train-00000-of-00001.parquet"))
    card = "---\nconfigs:\n- config_name: de-en\n  data_files:\n  - split: train\n    path: de-en/train-*\n---\n"
    (tmp_path / "wmt/README.md").write_text(card)
    DatasetDict(train=data).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / ".cache" / "huggingface").mkdir(parents=True)  # what `hf download` leaves
    for corpus in (f"{tmp_path}/wmt:de-en", f"{tmp_path}/saved"):
        assert load(corpus, tmp_path / "cache")[:] == {"source": ["Hello"], "target": ["Hallo"]}
    for mistake, split, named in (("wmt:xx-yy", "train", "'xx-yy'"), ("wmt:de-en", "test", "'test'.* train")):
        with pytest.raises(UserError, match=f"wmt.* {named}"):
            load(f"{tmp_path}/{mistake}", tmp_path / "cache", split)


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
        (["train.tsv.gz", "test.tsv.gz"], ""),
        (["a::b/train-00000-of-00001.csv"], ""),
    ],
)
def test_layouts_of_copies(tmp_path: Path, names: list[str], corpus: str) -> None:
    data = Dataset.from_dict({"en": ['a, "b'], "de": ["b"]})
    for name in names:
        path = tmp_path / "copy" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        match path.suffix:
            case ".parquet":
                data.to_parquet(path)
            case ".csv":
                path.write_text('de,en\nb,"a, ""b"\n')
            case ".tsv":
                path.write_text('id\ten\tde\n5\ta, "b\tb\n')
            case ".gz":
                path.write_bytes(gzip.compress(b'de\ten\nb\ta, "b\n'))
            case _:
                data.to_json(path)
    pairs = load(f"{tmp_path / 'copy'}{corpus}", tmp_path / "cache")
    shards = sum("train" in name and (not corpus or corpus[1:] in name) and name[0] != "." for name in names)
    assert pairs[:] == {"source": ['a, "b'] * shards, "target": ["b"] * shards}


def test_a_split_in_several_places_is_a_mistake(tmp_path: Path) -> None:
    data = Dataset.from_dict({"en": ["a"], "de": ["b"]})
    for name in ("v1/train.parquet", "v2/train.parquet"):
        data.to_parquet(tmp_path / "copy" / name)
    with pytest.raises(UserError, match=r"'train'.* \(v1/\*\.parquet, v2/\*\.parquet\)"):
        load(tmp_path / "copy", tmp_path / "cache")
    data.to_csv(tmp_path / "copy/v1/train.csv")
    with pytest.raises(UserError, match=r"'train'.* \(\./\*\.csv, \./\*\.parquet\)"):
        load(f"{tmp_path}/copy:v1", tmp_path / "cache")


LAUGHS = "a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{former}'] * 9)}]\n" for former, name in pairwise("abcdefghijkl")
)
"""A few hundred bytes of YAML that expand to 9^12 words."""


@pytest.mark.parametrize("card", ["README.md", ".huggingface.yaml", "dataset_infos.json"])
@pytest.mark.parametrize(
    "text",
    [LAUGHS + "configs:\n- config_name: default\n  data_files: *l\n", "configs: [" * 9999, "configs: {", "a: 1\n" * 9],
)
def test_cards_are_not_read(tmp_path: Path, card: str, text: str) -> None:
    Dataset.from_dict({"en": ["a"], "de": ["b"]}).to_parquet(tmp_path / "copy/train.parquet")
    (tmp_path / "copy" / card).write_text(text if card.endswith(".yaml") else f"---\n{text}---\n")
    assert load(tmp_path / "copy", tmp_path / "cache")["source"][:] == ["a"]


def test_a_damaged_copy_is_one_line(tmp_path: Path) -> None:
    write_folder(tmp_path / "copy", {"train.parquet": b"PAR1 and no more"})
    with pytest.raises(UserError, match=r"/copy/train\.parquet is damaged") as error:
        load(tmp_path / "copy", tmp_path / "cache")
    assert "\n" not in str(error.value)
