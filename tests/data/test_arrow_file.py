"""A file of the cache is believed only as far as its checksum goes, and a large one is not read before it is used."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from errno import EIO, ENOLCK
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from lit_transformer.data import arrow_file
from lit_transformer.data.arrow_file import (
    LateCheck,
    cached,
    is_whole,
    open_arrow,
    sealed_file,
    seems_whole,
    version_of,
)
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.data.store import TokenStore
from lit_transformer.errors import UserError
from tests.helpers.runs import NUM_SENTENCES, fit, make_corpus

CONTENT = b"some bytes" * 99


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large."""
    monkeypatch.setattr(arrow_file, "LARGE_FILE_BYTES", len(CONTENT))
    path = tmp_path / "file"
    with sealed_file(path) as unfinished:
        unfinished.write_bytes(CONTENT)
    return path


def flip_silently(path: Path, position: int) -> None:
    """Change a bit as a failing disk does: the file system knows of nothing, and nobody else has it open."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.unlink()
    path.write_bytes(data)
    seal = path.with_name(f"{path.name}.crc32")
    seal.write_text(" ".join(map(str, [seal.read_text().split()[0], *version_of(path.stat())])))
    arrow_file._checksum.cache_clear()  # of a process that has read it before


def finished(check: LateCheck) -> LateCheck:
    check.start()
    check._thread.join(timeout=60)
    assert not check._thread.is_alive()
    return check


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
    flip_silently(sealed, 7)
    assert seems_whole(sealed)
    with pytest.raises(UserError, match=r"file is damaged: run the same command again, .* --ckpt_path auto"):
        finished(LateCheck(sealed)).raise_if_damaged()
    assert not seems_whole(sealed)


def test_a_disk_that_cannot_read_is_damage(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise OSError(EIO, "Input/output error")

    monkeypatch.setattr(arrow_file, "_checksum", fail)
    with pytest.raises(UserError, match="damaged"):
        finished(LateCheck(sealed)).raise_if_damaged()
    assert not seems_whole(sealed)


def test_what_cannot_be_removed_is_said_so(sealed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip_silently(sealed, 7)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match=r"is damaged: remove it, or choose another folder with --data\.cache_dir"):
        finished(LateCheck(sealed)).raise_if_damaged()


def test_another_file_in_its_place_is_not_touched(sealed: Path) -> None:
    """A second run makes anew what the first one has found damaged, or has another version of the project."""
    for damage in (False, True):
        if damage:
            flip_silently(sealed, 7)
        check = LateCheck(sealed)
        with sealed_file(sealed) as unfinished:
            unfinished.write_bytes(b"other bytes" * 99)
        finished(check)
        assert seems_whole(sealed)
    assert not check.damaged, "it is not the file of that seal: nothing can be said of it"


def test_what_is_whole_or_gone_does_not_stop_anybody(sealed: Path) -> None:
    check = LateCheck(sealed)
    finished(check).raise_if_damaged()
    assert is_whole(sealed)
    check = LateCheck(sealed)
    sealed.unlink()
    finished(check).raise_if_damaged()
    check.start()  # as a second `fit` of the same datamodule does


def test_one_makes_a_file_while_the_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ranks, nodes and containers that share a disk start together."""
    monkeypatch.setattr(arrow_file, "_SILENT_SECONDS", 0.1)
    path, waiting = tmp_path / "file", Event()
    made: list[Path] = []

    def make(unfinished: Path) -> None:
        assert waiting.wait(timeout=60)
        unfinished.write_bytes(CONTENT)
        made.append(unfinished)

    def note(*_: object, **__: object) -> None:
        waiting.set()

    monkeypatch.setattr(arrow_file, "print", note, raising=False)
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: cached(path, make), range(3))) == [path] * 3
    assert len(made) == 1
    assert path.read_bytes() == CONTENT


def test_what_killed_makers_left_is_removed(tmp_path: Path) -> None:
    left = [tmp_path / "file.1.tmp", tmp_path / "file.crc32.1.tmp"]
    for name in left:
        name.write_bytes(CONTENT)
    (tmp_path / "file.2.tmp.3.tmp").mkdir()
    (tmp_path / "other.1.tmp").touch()
    cached(tmp_path / "file", lambda unfinished: unfinished.write_bytes(CONTENT))
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
def test_a_killed_maker_leaves_no_lock(tmp_path: Path) -> None:
    """Though processes that it has forked live on."""
    process = subprocess.Popen([sys.executable, "-c", FORK, tmp_path / "file.lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.wait()
        with ThreadPoolExecutor(1) as pool:
            made = pool.submit(cached, tmp_path / "file", lambda unfinished: unfinished.write_bytes(CONTENT))
            assert made.result(timeout=60) == tmp_path / "file"
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_a_disk_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(ENOLCK, "No locks available")

    monkeypatch.setattr(arrow_file.FileLock, "acquire", fail)
    with pytest.raises(UserError, match=r"cannot write the cache .*: No locks available; .*--data\.cache_dir"):
        cached(tmp_path / "file", lambda unfinished: pytest.fail("written"))


def tokens_of(data: TranslationData) -> list[list[int]]:
    return data._store.gather(np.arange(NUM_SENTENCES), "target").tolist()


def test_a_run_stops_and_the_next_one_makes_the_file_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arrow_file, "LARGE_FILE_BYTES", 0)
    corpus = make_corpus(tmp_path / "corpus")
    fit(corpus, tmp_path / "first", trainer__max_steps=2)
    [tokens] = (tmp_path / "cache" / "tokens").glob("*.arrow")
    content = tokens.read_bytes()
    store = TokenStore(open_arrow(tokens, fingerprint=""))
    flip_silently(tokens, int(store._starts["target"][3]) * store._flat.itemsize)
    with pytest.raises(SystemExit) as stopped:
        fit(corpus, tmp_path / "second", trainer__max_steps=2000)
    assert stopped.value.code == 2
    assert f"the cache file {tokens} is damaged: run the same command again" in capfd.readouterr().err
    run = fit(corpus, tmp_path / "third", trainer__max_steps=2)
    assert tokens.read_bytes() == content
    assert run.checkpoint(2).exists()


def test_a_datamodule_that_found_damage_opens_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook fits twice with the same one."""
    monkeypatch.setattr(arrow_file, "LARGE_FILE_BYTES", 0)
    settings = {"corpus": str(make_corpus(tmp_path / "corpus")), "cache_dir": str(tmp_path / "cache")}
    data = TranslationData(**settings, vocab_size=100)
    data.prepare_data()
    data.setup("fit")
    right, path = tokens_of(data), data._late_check._path
    flip_silently(path, int(data._store._starts["target"][3]) * data._store._flat.itemsize)
    data = TranslationData(**settings, vocab_size=100)
    data.prepare_data()
    data.setup("fit")
    assert tokens_of(data) != right
    finished(data._late_check)
    data.prepare_data()
    data.setup("fit")
    assert tokens_of(data) == right
