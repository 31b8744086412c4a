"""Folders of text files: lines are kept as they are, and the cache follows their content."""

import hashlib
import os
from pathlib import Path

import pytest
from datasets import Dataset
from hypothesis import assume, given
from hypothesis import strategies as st

from lit_transformer.data import text_file
from lit_transformer.data.text import Text, sentences
from lit_transformer.data.text_folder import find_text_folder
from lit_transformer.errors import UserError
from tests.helpers.corpora import write_folder


def find(folder: Path, cache_dir: Path, split: str = "train", languages: str = "en-de") -> Text:
    source, target = languages.split("-")
    return find_text_folder(folder, split=split, source=source, target=target, cache_dir=cache_dir)


def load(folder: Path, cache_dir: Path, split: str = "train", languages: str = "en-de") -> Dataset:
    return find(folder, cache_dir, split, languages).load()


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
    """Blocks of a few bytes split characters, CRLF and lines everywhere."""
    sides = [
        [text.encode("utf-8", "ignore").decode().replace("\n", "").lstrip("\ufeff") for text in side]
        for side in zip(*lines, strict=True)
    ]
    sides = [[*side[:-1], side[-1] or "x"] for side in sides]
    assume(not any("\r" in line.rstrip("\r") for side in sides for line in side))  # a file of the old Mac is refused
    end = "\n" if final_newline else ""
    tmp_path = tmp_path_factory.mktemp("blocks")
    folder = write_folder(tmp_path, {"train.en": "\n".join(sides[0]) + end, "train.de": "\r\n".join(sides[1]) + end})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_file, "BLOCK_BYTES", block_bytes)
        pairs = load(folder, tmp_path)
    # One carriage return before a line feed, or at the end, is part of the line end.
    assert pairs["source"][:] == [line.removesuffix("\r") for line in sides[0]]
    assert pairs["target"][:] == [*sides[1][:-1], sides[1][-1].removesuffix("\r")]


@pytest.mark.parametrize("large", [False, True])
def test_cache_follows_the_content_and_is_memory_mapped(
    large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_file, "LARGE_FILE_BYTES", 0 if large else 2**30)
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
    monkeypatch.setattr(text_file, "LARGE_FILE_BYTES", 36)
    first = find(folder, tmp_path / "cache")
    assert first.fingerprint == expected
    assert first.load()["target"][:] == ["c", "d"] * 9
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert find(folder, tmp_path / "cache").fingerprint == expected
    (folder / "train.de").write_text("c\ne\n" * 9)
    assert find(folder, tmp_path / "cache").load()["target"][:] == ["c", "e"] * 9


def test_failed_reading_leaves_no_cache(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {"train.en": "a\nb\n", "train.de": b"c\n\xff\n"})
    with pytest.raises(UserError):
        load(folder, tmp_path / "cache")
    assert {path.suffix for path in (tmp_path / "cache").rglob("*") if path.is_file()} == {".lock"}


def test_language_pairs_in_the_names(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"train.de-en.en": "pair", "train.de-en.de": "Paar"}
    folder = write_folder(
        tmp_path / "text", files | {"train.fr-en.en": "other", "train.old.en": "old", "train.old.de": ""}
    )
    assert load(folder, tmp_path)["source"][:] == ["pair"]
    write_folder(folder, {"train.en-de.en": "a", "train.en-de.de": "b"})
    with pytest.raises(UserError, match=r"train\.en-de\.en and train\.de-en\.en"):
        load(folder, tmp_path)
    write_folder(folder, {"train.en": "plain", "train.de": "schlicht"})
    assert load(folder, tmp_path)["source"][:] == ["plain"]


@pytest.mark.parametrize(
    ("files", "split", "languages", "message"),
    [
        ({}, "train", "en-de", r"'train' in en and de: .*none.*train\.en"),
        (
            {"train.en": "a", "train.de": "b", "README.md": "c"},
            "test",
            "en-de",
            r"'test'.* train;",
        ),
        ({"train.en": "a", "train.de": "b"}, "train", "en-fr", r"train\.fr: .* de, en;"),
        ({"train.en": "a"}, "train", "en-de", r"train\.de: .*'train'.* en;"),
        ({"train.en": "", "train.de": "b"}, "train", "en-de", r"train\.en is empty"),
        ({"train.en": "a\nb".encode("utf-16"), "train.de": "c"}, "train", "en-de", r"train\.en .*UTF-16LE"),
        ({"train.en": "a\nb", "train.de": "c"}, "train", "en-de", r"train\.en has 2 .*\.de has 1:"),
        ({"train.en": "a\nb", "train.de": b"c\nd\xe4\n"}, "train", "en-de", r"train\.de:2: invalid UTF-8"),
        ({"train.en": "a\nb\n", "train.de": "c\rd\r"}, "train", "en-de", r"train\.de has 1 lone .*`tr "),
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
        with pytest.raises(UserError, match=r"train\.en\.gz .*copy"):
            load(folder, tmp_path)
    (folder / "train.de").unlink()
    (folder / "train.de").mkdir()
    with pytest.raises(UserError, match=r"cannot read .*train\.de: Is a directory"):
        load(folder, tmp_path)


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "text", {"train.en": "a", "train.de": "b"})
    with pytest.raises(UserError, match=r"cache .*train\.en.*cache_dir"):
        load(folder, folder / "train.en")


def test_multi30k(shared_data: Path, tmp_path: Path) -> None:
    for folder, split, num_pairs in (("multi30k", "valid", 1014), ("multi30k_tok", "train", 29_000)):
        pairs = load(shared_data / folder, tmp_path, split=split)
        assert len(pairs) == num_pairs
    words = [sum(len(text.split()) for text in pairs[column]) for column in ("source", "target")]
    assert words == [377_534, 360_706]
