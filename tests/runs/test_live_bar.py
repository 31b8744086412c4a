"""What a run shows on a terminal, in a file, and with a bar that the user brings."""

import contextlib
import io
import re
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback

from lit_transformer.fit import main
from lit_transformer.notes import print_note
from lit_transformer.runs.live_bar import LiveBar
from tests.helpers.runs import arguments, own_lines

STEPS = {
    "trainer__max_steps": 6,
    "trainer__val_check_interval": 3,
    "trainer__log_every_n_steps": 2,
    "checkpoints__every_n_train_steps": 6,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def lines(self) -> list[str]:
        """What a person sees at the end."""
        shown = []
        for line in self.getvalue().split("\n"):
            cells: list[str] = []
            for part in line.split("\r"):
                cells[: len(part)] = part
            shown.append("".join(cells).rstrip())
        return shown


class Chatty(Callback):
    """Prints in pieces, on both streams, in the middle of training."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        print("a line", "of the user at step", trainer.global_step)
        print("warning: of step", trainer.global_step, file=sys.stderr)
        print_note(f"of step {trainer.global_step}")


def fit_on_terminal(corpus: Path, root: Path, **changes: Any) -> Terminal:
    """Train with both streams on one terminal."""
    terminal = Terminal()
    with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
        main(arguments(corpus, root, **STEPS, **changes))
    return terminal


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is drawn at every step."""
    monkeypatch.setattr("lit_transformer.runs.live_bar.REFRESH_SECONDS", 0.0)


@pytest.mark.usefixtures("quick")
def test_on_a_terminal_one_bar_is_live_and_lines_stand_above_it(corpus: Path, tmp_path: Path) -> None:
    terminal = fit_on_terminal(corpus, tmp_path, trainer__callbacks="tests.runs.test_live_bar.Chatty")
    lines = terminal.lines()
    [bar] = [number for number, line in enumerate(lines) if line.startswith("step") and "%|" in line]
    assert re.match(r"step 6/6 100%\|[█#]+\| loss \d\.\d+  [\d,]+ tokens/s  best BLEU \d+\.\d$", lines[bar]), lines[bar]
    for step in range(1, 7):
        for expected in (f"a line of the user at step {step}", f"warning: of step {step}", f"note: of step {step}"):
            assert expected in lines[:bar]
    assert sum("validation loss" in line for line in lines[:bar]) == 2
    assert any(line.startswith("      -> ") for line in lines[:bar])
    assert not any(re.match(r"step .* data wait", line) for line in lines), "the lines of a file"
    drawn = re.findall(r"step (\d)/6", terminal.getvalue())
    assert set(drawn) == set("0123456")
    assert "validation 1/" in terminal.getvalue()
    assert " s left" in terminal.getvalue()
    assert "Trained to step 6" in "\n".join(lines[bar + 1 :])


def test_a_file_has_lines_and_no_control_characters(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    main(arguments(corpus, tmp_path, **STEPS, trainer__max_time="00:01:00:00"))
    output, errors = capfd.readouterr()
    assert re.findall(r"^step +(\d)/6  loss .* target tokens/s .* left$", output, re.MULTILINE) == ["2", "4"]
    # Other libraries draw bars while they prepare data.
    assert not re.search(r"[\r\x1b\x08]", output + "".join(own_lines(errors)))


def test_the_bar_can_be_forced_and_refused(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    terminal = fit_on_terminal(corpus, tmp_path / "refused", trainer__enable_progress_bar="false")
    assert "/6 100%|" not in terminal.getvalue()
    assert "data wait" in terminal.getvalue()
    main(arguments(corpus, tmp_path / "forced", **STEPS, trainer__enable_progress_bar="true"))
    output, errors = capfd.readouterr()
    assert "data wait" not in output
    assert "step 6/6 100%|" in errors


def test_the_users_bar_replaces_ours(corpus: Path, tmp_path: Path) -> None:
    """And no lines of training are mixed in. Results of validation stand above it."""
    terminal = fit_on_terminal(corpus, tmp_path, trainer__callbacks="TQDMProgressBar")
    assert "train/loss=" in terminal.getvalue()
    assert "data wait" not in terminal.getvalue()
    assert "tokens/s" not in terminal.getvalue()
    assert sum(bool(re.match("step +[36]  validation loss", line)) for line in terminal.lines()) == 2


def test_an_error_stands_on_a_line_of_its_own(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveBar, "on_validation_end", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit_on_terminal(corpus, tmp_path)
    before = (sys.stdout, sys.stderr)
    terminal = Terminal()
    with contextlib.redirect_stdout(terminal), contextlib.redirect_stderr(terminal):
        with pytest.raises(ZeroDivisionError):
            main(arguments(corpus, tmp_path, **STEPS))
        assert (sys.stdout, sys.stderr) == (terminal, terminal)
        print("the error")
    assert (sys.stdout, sys.stderr) == before
    assert terminal.lines()[-2:] == ["the error", ""]
