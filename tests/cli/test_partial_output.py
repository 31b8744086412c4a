"""Results that are continued after an interruption at any moment."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from lit_transformer.cli import input_lines
from lit_transformer.cli.partial_output import PARTIAL, partial_output
from lit_transformer.cli.translating import append_translations
from lit_transformer.decoding.settings import BATCH_TOKENS
from lit_transformer.decoding.translations import Translation
from lit_transformer.errors import UserError
from lit_transformer.search_settings import SearchSettings

LINES = [f"line {number}" for number in range(1, 44)]
ORIGIN: dict[str, str | int | None] = {"input": "a", "checkpoint": "b", "beam_size": 4}


class Chunks:
    """Translates a line to itself and the first line of its chunk, which stands for the batch that it is in."""

    num_workers = 1
    batch_tokens = BATCH_TOKENS

    def __init__(self, most_chunks: int = 99) -> None:
        self.most_chunks = most_chunks
        self.num_lines = 0

    def stream(self, chunks: Iterable[list[str]], settings: Any, **_: Any) -> Iterator[list[list[Translation]]]:
        for chunk in islice(chunks, self.most_chunks):
            self.num_lines += len(chunk)
            yield [
                [Translation(f"{text} {chunk[0]} äöü {n}", -n, finished=True) for n in range(settings.num_returned)]
                for text in chunk
            ]
        if self.most_chunks < 99:
            raise KeyboardInterrupt


def write(path: Path, translator: Chunks, n_best: int | None = None, **origin: Any) -> None:
    settings = SearchSettings(n_best=n_best)
    with partial_output(path, inputs=[], origin=ORIGIN | {"n_best": n_best} | origin) as output:
        append_translations(output, translator, LINES, settings, n_best, total=len(LINES))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_lines, "FIRST_CHUNK", 3)
    monkeypatch.setattr(input_lines, "LARGEST_CHUNK", 7)


@pytest.mark.parametrize("n_best", [None, 2])
def test_a_kill_at_any_moment(tmp_path: Path, n_best: int | None) -> None:
    """Whatever part of the last chunk is on the disk, the same bytes come out."""
    write(tmp_path / "whole", Chunks(), n_best)
    whole = (tmp_path / "whole").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole"]
    assert whole.count(b"\n") == len(LINES) * (n_best or 1)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", Chunks(0), n_best)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["whole"], "nothing was done"
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", Chunks(1), n_best)
    record = tmp_path / f"out{PARTIAL}.json"
    kept = record.read_bytes()
    for size in range(0, len(whole) + 1, 11):
        (tmp_path / f"out{PARTIAL}").write_bytes(whole[:size])
        record.write_bytes(kept)
        (tmp_path / "out").unlink(missing_ok=True)
        rest = Chunks()
        write(tmp_path / "out", rest, n_best)
        assert (tmp_path / "out").read_bytes() == whole
        # At most one chunk is translated again.
        num_lines = whole[:size].count(b"\n") // (n_best or 1)
        assert len(LINES) - num_lines <= rest.num_lines < len(LINES) - num_lines + 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "whole"]


def test_a_kill_before_the_first_row(tmp_path: Path) -> None:
    """The record is there, and no row."""
    (tmp_path / f"out{PARTIAL}.json").write_text(json.dumps(ORIGIN | {"beam_size": 3}))
    write(tmp_path / "out", Chunks())
    assert (tmp_path / "out").read_text(encoding="utf-8").count("\n") == len(LINES)


def test_what_differs_is_named(tmp_path: Path) -> None:
    """And nothing is lost."""
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", Chunks(2))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for change, message in (
        ({"input": "c"}, "another input: "),
        ({"beam_size": 5}, r"another beam_size \(4, now 5\): "),
        ({"checkpoint": "c", "n_best": 2}, r"another checkpoint, n_best \(None, now 2\): "),
    ):
        with pytest.raises(UserError, match=rf"out\{PARTIAL} .*{message}.*remove"):
            write(tmp_path / "out", Chunks(), **change)
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / f"out{PARTIAL}.json").write_text("[1")
    with pytest.raises(UserError, match=r"cannot be continued"):
        write(tmp_path / "out", Chunks())


def test_an_interruption_says_what_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", Chunks(2))
    assert " 9 rows " in capsys.readouterr().err
    write(tmp_path / "out", Chunks())
    assert " 9 lines are translated already: line 10 " in capsys.readouterr().err


def test_two_processes_do_not_write_the_same_output(tmp_path: Path) -> None:
    with (
        partial_output(tmp_path / "out", inputs=[], origin=ORIGIN),
        pytest.raises(UserError, match=r"another process"),
        partial_output(tmp_path / "out", inputs=[], origin=ORIGIN),
    ):
        pass


def test_a_link_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "folder" / "real")
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", Chunks(1))
    write(tmp_path / "out", Chunks())
    assert (tmp_path / "out").is_symlink()
    assert len((tmp_path / "folder" / "real").read_text(encoding="utf-8").splitlines()) == len(LINES)


def test_a_device() -> None:
    if not Path("/dev/null").exists():
        pytest.skip("there is no /dev/null")
    translator = Chunks()
    write(Path("/dev/null"), translator)
    assert translator.num_lines == len(LINES)
    assert not Path(f"/dev/null{PARTIAL}").exists()
