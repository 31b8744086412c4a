"""Progress in logs and on terminals."""

import io
import sys

import pytest

from lit_transformer import progress as progress_module
from lit_transformer.notes import print_note
from lit_transformer.progress import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (1000, ["translating: 110 of 1,000 lines, 2 min left", "translating: 215 of 1,000 lines, 4 min left"]),
        (100_000, ["translating: 215 of 100,000 lines, 7 h 44 min left"]),
        (None, ["translating: 110 lines", "translating: 215 lines"]),
        (215, ["translating: 110 of 215 lines, 14 s left"]),
    ],
)
def test_lines_in_a_log(
    clock: list[float], capsys: pytest.CaptureFixture[str], total: int | None, expected: list[str]
) -> None:
    """After ten seconds at the earliest, for a tenth of the whole or after a minute. The end says nothing."""
    with progress("translating", total, "line") as advance:
        for seconds, number in ((1, 10), (9.9, 90), (15, 10), (20, 100), (60.0, 5)):
            clock[0] = seconds
            advance(number)
        clock[0] = 76.0
        advance(0)
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in expected))


def test_nothing_for_what_takes_a_moment(capsys: pytest.CaptureFixture[str]) -> None:
    for is_shown in (True, False):
        with progress("translating", 3, "line", is_shown=is_shown) as advance:
            for _ in range(3):
                advance(1)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note does not tear it apart, and at the end it is gone. Fractions of a thing add up."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress_module, "FIRST_BAR_SECONDS", 0.0)
    with progress("translating", 20, "line", done=5) as advance:
        for _ in range(29):
            advance(1 / 3)
        advance(1)
        print_note("a character is unknown")
        advance(1 / 3)
    shown = terminal.getvalue()
    assert "translating" in shown
    assert "15/20 " in shown or "14/20 " in shown
    [note] = [line for line in shown.replace("\n", "\r").split("\r") if "note" in line]
    assert note == "note: a character is unknown"
    assert shown.split("\r")[-2].strip() == "" == shown.split("\r")[-1].strip()
