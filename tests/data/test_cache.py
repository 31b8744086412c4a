"""A file of the cache is checked against its checksum, a large one while it is in use. One process makes it."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from errno import EIO, ENOLCK
from pathlib import Path
from threading import Event

import pytest
from filelock import FileLock

from lit_transformer.data import cache
from lit_transformer.data.cache import (
    LateCheck,
    cached_file,
    is_whole,
    sealed_file,
    seems_whole,
)
from lit_transformer.errors import UserError
from tests.helpers.damage import flip_silently

CONTENT = b"some bytes" * 99


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large."""
    monkeypatch.setattr(cache, "LARGE_FILE_BYTES", len(CONTENT))
    path = tmp_path / "file"
    with sealed_file(path) as unfinished:
        unfinished.write_bytes(CONTENT)
    return path


def finished(check: LateCheck) -> LateCheck:
    check.start()
    check.thread.join(timeout=60)
    assert not check.thread.is_alive()
    return check


def test_a_large_file_is_read_only_when_it_was_changed(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(cache, "checksum", lambda *_: pytest.fail("read"))
        assert seems_whole(sealed)
        patch.setattr(cache, "LARGE_FILE_BYTES", len(CONTENT) + 1)
        with pytest.raises(pytest.fail.Exception, match="read"):
            seems_whole(sealed)
        patch.setattr(cache, "LARGE_FILE_BYTES", len(CONTENT))
        os.utime(sealed)
        with pytest.raises(pytest.fail.Exception, match="read"):
            seems_whole(sealed)
    # Touched, or copied from elsewhere, it is read once.
    assert seems_whole(sealed)
    with monkeypatch.context() as patch:
        patch.setattr(cache, "checksum", lambda *_: pytest.fail("read"))
        assert seems_whole(sealed)


def test_a_changed_file_is_not_whole(sealed: Path, capfd: pytest.CaptureFixture[str]) -> None:
    times = sealed.stat()
    sealed.write_bytes(CONTENT[:-1] + b"x")
    os.utime(sealed, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert not seems_whole(sealed)
    assert f"{sealed} is damaged" in capfd.readouterr().err


@pytest.mark.parametrize("seal", [b"", b"00000000", b"\xff", b"1 2 3 4 5 6"])
def test_an_unreadable_seal(seal: bytes, sealed: Path) -> None:
    sealed.with_name("file.crc32").write_bytes(seal)
    assert not seems_whole(sealed)


def test_bit_rot_is_found_later(sealed: Path) -> None:
    flip_silently(sealed, 7)
    assert seems_whole(sealed)
    with pytest.raises(UserError, match=r"/file is damaged: resume"):
        finished(LateCheck(sealed)).raise_if_damaged()
    assert not seems_whole(sealed)


def test_a_failing_disk_counts_as_damage(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise OSError(EIO, "Input/output error")

    monkeypatch.setattr(cache, "checksum", fail)
    with pytest.raises(UserError, match="damaged"):
        finished(LateCheck(sealed)).raise_if_damaged()
    assert not seems_whole(sealed)


def test_a_damaged_file_in_a_read_only_cache_is_named(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_silently(sealed, 7)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match=r"/file is damaged: remove it .*cache_dir"):
        finished(LateCheck(sealed)).raise_if_damaged()


def test_a_file_that_replaced_it_is_not_touched(sealed: Path) -> None:
    """A second run may make the file again, or be of another version of lit_transformer."""
    for damage in (False, True):
        if damage:
            flip_silently(sealed, 7)
        check = LateCheck(sealed)
        with sealed_file(sealed) as unfinished:
            unfinished.write_bytes(b"other bytes" * 99)
        finished(check)
        assert seems_whole(sealed)
    assert not check.damaged, "the seal is that of another file"


def test_a_file_that_is_replaced_while_it_is_read_is_not_touched(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check = LateCheck(sealed)

    def replace_and_fail(path: Path, _: object) -> str:
        monkeypatch.undo()
        with sealed_file(path) as unfinished:
            unfinished.write_bytes(b"other bytes" * 99)
        raise OSError(EIO, "Input/output error")

    monkeypatch.setattr(cache, "checksum", replace_and_fail)
    finished(check).raise_if_damaged()
    assert is_whole(sealed)


def test_a_file_that_is_whole_or_gone_raises_nothing(sealed: Path) -> None:
    check = LateCheck(sealed)
    finished(check).raise_if_damaged()
    assert is_whole(sealed)
    check = LateCheck(sealed)
    sealed.unlink()
    finished(check).raise_if_damaged()
    check.start()  # as a second `fit` of the same datamodule does


def test_one_process_makes_a_file_while_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks on a shared disk start together."""
    monkeypatch.setattr(cache, "SILENT_SECONDS", 0.1)
    path, waiting = tmp_path / "file", Event()
    made: list[Path] = []

    def make(unfinished: Path) -> None:
        assert waiting.wait(timeout=60)
        unfinished.write_bytes(CONTENT)
        made.append(unfinished)

    def note(_: str) -> None:
        waiting.set()

    monkeypatch.setattr(cache, "print_note", note)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: cached_file(path, make), range(3))) == [path] * 3
    assert len(made) == 1
    assert path.read_bytes() == CONTENT


def test_unfinished_files_of_killed_processes_are_removed(tmp_path: Path) -> None:
    left = [tmp_path / "file.1.tmp", tmp_path / "file.crc32.1.tmp"]
    for name in left:
        name.write_bytes(CONTENT)
    (tmp_path / "file.2.tmp.3.tmp").mkdir()
    (tmp_path / "other.1.tmp").touch()
    cached_file(tmp_path / "file", lambda unfinished: unfinished.write_bytes(CONTENT))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"file", "file.crc32", "file.lock", "other.1.tmp"}


FORK = """
import os, sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes are forked here")
def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """Even if processes that it has forked live on."""
    process = subprocess.Popen([sys.executable, "-c", FORK, tmp_path / "file.lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        with ThreadPoolExecutor(1) as pool:
            made = pool.submit(cached_file, tmp_path / "file", lambda unfinished: unfinished.write_bytes(CONTENT))
            assert made.result(timeout=60) == tmp_path / "file"
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(ENOLCK, "No locks available")

    monkeypatch.setattr(FileLock, "acquire", fail)
    with pytest.raises(UserError, match=r"cache .*: No locks available; .*cache_dir"):
        cached_file(tmp_path / "file", lambda unfinished: pytest.fail("written"))
