"""A file of the cache is believed only as far as its checksum goes, and a large one is not read before it is used."""

import os
import time
from pathlib import Path

import pytest

from lit_transformer.data import arrow_file
from lit_transformer.data.arrow_file import LateCheck, is_whole, sealed_file, seems_whole, version_of
from lit_transformer.errors import UserError
from tests.runs import fit, make_corpus

CONTENT = b"some bytes" * 99


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large."""
    monkeypatch.setattr(arrow_file, "LARGE_FILE_BYTES", len(CONTENT))
    path = tmp_path / "file"
    with sealed_file(path) as unfinished:
        unfinished.write_bytes(CONTENT)
    return path


def flip_silently(path: Path) -> None:
    """Change a bit as a failing disk does: the file system knows of nothing."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    seal = path.with_name(f"{path.name}.crc32")
    seal.write_text(" ".join([seal.read_text().split()[0], *version_of(path.stat())]))
    arrow_file._checksum.cache_clear()  # of a process that has read it before


def wait_for(check: LateCheck) -> None:
    """Half a minute is more than the smallest of files takes."""
    for _ in range(3000):
        check.raise_if_damaged()
        time.sleep(0.01)


def test_a_large_file_is_read_only_when_it_was_changed(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(arrow_file, "_checksum", lambda *_: pytest.fail("read"))
        assert seems_whole(sealed)
        patch.setattr(arrow_file, "LARGE_FILE_BYTES", len(CONTENT) + 1)
        with pytest.raises(pytest.fail.Exception, match="read"):
            seems_whole(sealed)
        patch.setattr(arrow_file, "LARGE_FILE_BYTES", len(CONTENT))
        os.utime(sealed)
        with pytest.raises(pytest.fail.Exception, match="read"):
            seems_whole(sealed)
    # Touched, or copied from elsewhere, it is read once.
    assert seems_whole(sealed)
    with monkeypatch.context() as patch:
        patch.setattr(arrow_file, "_checksum", lambda *_: pytest.fail("read"))
        assert seems_whole(sealed)


def test_what_was_written_to_is_not_whole(sealed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    times = sealed.stat()
    sealed.write_bytes(CONTENT[:-1] + b"x")
    os.utime(sealed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not seems_whole(sealed)
    assert f"{sealed} is damaged" in capfd.readouterr().err


@pytest.mark.parametrize("seal", [b"", b"00000000", b"\xff", b"1 2 3 4 5 6"])
def test_a_seal_of_nonsense(seal: bytes, sealed: Path) -> None:
    sealed.with_name("file.crc32").write_bytes(seal)
    assert not seems_whole(sealed)


def test_a_bit_that_flipped_is_found_later(sealed: Path) -> None:
    flip_silently(sealed)
    assert seems_whole(sealed)
    with pytest.raises(UserError, match=r"file is damaged: run the same command again"):
        wait_for(LateCheck(sealed))
    assert not seems_whole(sealed)


def test_what_is_whole_or_gone_does_not_stop_anybody(sealed: Path) -> None:
    arrow_file._checksum.cache_clear()
    check = LateCheck(sealed)
    while arrow_file._checksum.cache_info().currsize == 0:
        time.sleep(0.01)
    check.raise_if_damaged()
    assert is_whole(sealed)
    sealed.with_name("file.crc32").unlink()
    LateCheck(sealed).raise_if_damaged()


def test_a_run_stops_and_the_next_one_makes_the_file_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arrow_file, "LARGE_FILE_BYTES", 0)
    corpus = make_corpus(tmp_path / "corpus")
    fit(corpus, tmp_path / "first", trainer__max_steps=2)
    [tokens] = (tmp_path / "cache" / "tokens").glob("*.arrow")
    content = tokens.read_bytes()
    flip_silently(tokens)
    with pytest.raises(SystemExit) as stopped:
        fit(corpus, tmp_path / "second", trainer__max_steps=10**6)
    assert stopped.value.code == 2
    assert f"the cache file {tokens} is damaged: run the same command again" in capfd.readouterr().err
    run = fit(corpus, tmp_path / "third", trainer__max_steps=2)
    assert tokens.read_bytes() == content
    assert run.checkpoint(2).exists()
