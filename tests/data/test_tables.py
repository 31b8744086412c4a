"""Tables of every format: the same pairs, found again by their content."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset
from pyarrow import parquet

from lit_transformer.data.tables import find_tables, table_suffix
from lit_transformer.errors import UserError

Rows = list[tuple[str, str]]


def write_arrow_file(rows: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(path, rows.schema) as writer:
        writer.write_table(rows)


def write_arrow_stream(rows: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(path, rows.schema) as writer:
        writer.write_table(rows)


def write_text(line: str, header: str = "") -> Callable[[pa.Table, Path], None]:
    def write(rows: pa.Table, path: Path) -> None:
        text = header + "".join(line.format(**row) for row in rows.to_pylist())
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())

    return write


WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "x.parquet": parquet.write_table,
    "x.arrow": write_arrow_stream,
    "y.arrow": write_arrow_file,
    "x.csv": write_text("{en},{de}\n", "en,de\n"),
    "x.csv.gz": write_text("{en},{de}\n", "en,de\n"),
    "x.tsv": write_text("{en}\t{de}\n", "en\tde\n"),
    "x.tsv.gz": write_text("{en}\t{de}\n", "en\tde\n"),
    "x.jsonl": write_text('{{"en": "{en}", "de": "{de}"}}\n'),
    "x.jsonl.gz": write_text('{{"en": "{en}", "de": "{de}"}}\n'),
    "x.json": write_text('{{"en": "{en}", "de": "{de}"}}\n'),
}


def load(*paths: Path, source: str = "en", target: str = "de") -> Rows:
    pairs = find_tables(list(paths), source=source, target=target, cache_dir=paths[0].parent / "cache").load()
    assert isinstance(pairs, Dataset)
    return list(zip(pairs["source"], pairs["target"], strict=True))


@pytest.mark.parametrize("name", WRITERS)
def test_another_file_with_the_same_size_and_time(tmp_path: Path, name: str) -> None:
    """As `rsync -t`, `cp -p` and archives leave it."""
    path = tmp_path / name
    WRITERS[name](pa.table({"en": ["a", "b"], "de": ["c", "d"]}), path)
    status = path.stat()
    assert load(path) == [("a", "c"), ("b", "d")]
    assert load(path, source="de", target="en") == [("c", "a"), ("d", "b")]
    WRITERS[name](pa.table({"en": ["a", "x"], "de": ["c", "y"]}), path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load(path) == [("a", "c"), ("x", "y")]


def test_shards_in_their_order(tmp_path: Path) -> None:
    for number in range(3):
        columns = {"en": pa.array([f"{number}"] * number, pa.string()), "de": pa.array(["x"] * number, pa.string())}
        parquet.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    assert load(*(tmp_path / f"{number}.parquet" for number in range(3))) == [("1", "x"), ("2", "x"), ("2", "x")]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "y.arrow"])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_columns_of_text(tmp_path: Path, name: str, nested: bool, kind: pa.DataType) -> None:
    texts = pa.array(["a", None, "\u00e4\n"], pa.string()).cast(kind)
    columns = {"en": texts, "id": pa.array([1, 2, 3]), "de": pa.array(["x", "y", None])}
    table = pa.table(columns)
    if nested:
        table = pa.table({"translation": table.to_struct_array().combine_chunks(), "id": columns["id"]})
    WRITERS[name](table, tmp_path / name)
    assert load(tmp_path / name) == [("a", "x"), ("", "y"), ("\u00e4\n", "")]


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow", "y.arrow"])
def test_user_errors_of_columns(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](pa.table({"en": [1.5], "de": ["a"]}), path)
    with pytest.raises(UserError, match=r"source is en, .*[xy]\.\w+ holds double"):
        load(path)
    with pytest.raises(UserError, match=r"target is fr, .*[xy]\.\w+ are de:"):
        load(path, source="de", target="fr")
    path.write_bytes(path.read_bytes()[:-20] if path.suffix == ".parquet" else b"ARROW1 and no more")
    with pytest.raises(UserError, match=r"[xy]\.\w+ is damaged") as error:
        load(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", WRITERS)
def test_tables_without_rows(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](pa.table({"en": pa.array([], pa.string()), "de": pa.array([], pa.string())}), path)
    with pytest.raises(UserError, match=r"has no sentence pairs|is empty"):
        load(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match=r"[xy]\.\S+ is empty"):
        load(path)


def test_suffixes() -> None:
    known = {"a.tsv": ".tsv", "a.b.csv.gz": ".csv.gz", "a.json": ".json", "a.arrow": ".arrow", "x.parquet": ".parquet"}
    other = ["a.parquet.gz", "a.gz", "tsv", "a.en", "a.txt", "a.tsv.zip"]
    assert {name: table_suffix(name) for name in [*known, *other]} == {**known, **dict.fromkeys(other)}
