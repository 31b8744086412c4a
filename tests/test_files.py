import os
from pathlib import Path

import pytest

from lit_transformer.files import remove_unfinished, whole_file


def test_two_containers_write_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their processes have the same number. Each file is whole, and the last one stays."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    path = tmp_path / "file"
    with whole_file(path) as first:
        first.write_text("first")
        with whole_file(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        with whole_file(tmp_path / "file") as unfinished:
            unfinished.write_text("text")
        assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(former)


def test_only_what_is_not_whole_is_removed(tmp_path: Path) -> None:
    for name in ("a.ckpt", "a.ckpt.1.tmp", "b.ckpt.1.tmp", "a.tmp.txt"):
        (tmp_path / name).touch()
    (tmp_path / "a.2.tmp").mkdir()
    (tmp_path / "a.2.tmp" / "file").touch()
    remove_unfinished(tmp_path, "a.")
    assert {path.name for path in tmp_path.iterdir()} == {"a.ckpt", "b.ckpt.1.tmp", "a.tmp.txt"}
    remove_unfinished(tmp_path / "nowhere", "a.")
