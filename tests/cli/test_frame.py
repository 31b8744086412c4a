"""Standard streams that fail and Ctrl-C, in every command: one line, and never a lost line or a lost run."""

import errno
import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from lit_transformer import align, attention, average, check, fit, test, translate
from lit_transformer.checkpoints.names import step_of
from lit_transformer.cli import input_lines
from lit_transformer.cli.frame import user_errors_to_exit
from lit_transformer.cli.input_lines import arriving_lines
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.errors import UserError
from lit_transformer.runs import dispensable, saving
from lit_transformer.runs.dispensable import Dispensable
from lit_transformer.runs.run_folder import run_folder
from tests.helpers.runs import arguments

TEXT = ["The cat sleeps.", "A dog eats."]
STEPS = 20
SHORT = {"trainer__max_steps": STEPS, "trainer__val_check_interval": STEPS, "checkpoints__every_n_train_steps": STEPS}


def last_step_is_saved(root: Path) -> bool:
    return any(step_of(path) == STEPS for path in root.rglob("step-*.ckpt"))


def test_ctrl_c_while_an_error_is_handled() -> None:
    interrupt = KeyboardInterrupt()
    interrupt.__context__ = OSError()
    with pytest.raises(KeyboardInterrupt), Dispensable("curves"):
        raise interrupt


def test_an_error_while_a_mistake_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """torch's handler of a data worker's death raises wherever the main thread is."""
    killed = RuntimeError("a worker is killed")
    killed.__context__ = UserError("the mistake")
    with pytest.raises(SystemExit) as end, user_errors_to_exit():
        raise killed
    assert end.value.code == 2
    assert capsys.readouterr().err == "error: the mistake\n"


class Stdout(io.TextIOWrapper):
    """A file whose encoding knows few characters."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="ascii")

    def text(self) -> str:
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode("utf-8")


def test_a_locale_that_lacks_characters(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation prints translations: German letters ended the run there."""
    stdout = Stdout()
    monkeypatch.setattr(sys, "stdout", stdout)
    fit.main(arguments(corpus, tmp_path, **SHORT))
    assert any(letter in stdout.text() for letter in "äöüß")


def test_characters_that_have_no_encoding(tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file name that is not UTF-8 comes as half a surrogate pair."""
    stdout = Stdout()
    monkeypatch.setattr(sys, "stdout", stdout)
    output = tmp_path / "M\udcfcller.json"
    attention.main(["--checkpoint", str(tiny_run), "--text", TEXT[0], "--output", str(output)])
    assert output.exists()
    assert stdout.text() == f"written: {tmp_path}/M\\udcfcller.json\n"


@contextmanager
def closed_pipe() -> Iterator[io.TextIOWrapper]:
    """`| head`: nobody reads any more."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        yield stream


@contextmanager
def full_disk() -> Iterator[io.TextIOWrapper]:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with Path("/dev/full").open("w") as stream:
        yield stream


@pytest.mark.parametrize("lost", [closed_pipe, full_disk])
def test_training_goes_on_when_nobody_can_read_its_output(
    lost: Callable[[], Any],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with lost() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        fit.main(arguments(corpus, tmp_path, **SHORT))
    assert last_step_is_saved(tmp_path)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith("note: cannot write to stdout: ")


@pytest.mark.parametrize(("lost", "status"), [(closed_pipe, 0), (full_disk, 2)])
def test_other_commands_end_when_nobody_can_read_their_output(
    lost: Callable[[], Any],
    status: int,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with lost() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with pytest.raises(SystemExit) as end:
            average.main(["--run", str(tiny_run), "--last", "1", "--output", str(tmp_path / "average")])
    assert end.value.code == status
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == (status == 2)
    assert all(line.startswith("error: cannot write to stdout: ") for line in errors)


def no_space(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_training_goes_on_without_curves_and_settings(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk meets each kind of them; pictures of attention are among them."""
    for method in ("add_scalar", "add_text", "add_image", "flush", "close"):
        monkeypatch.setattr(SummaryWriter, method, no_space)
    monkeypatch.setattr("lightning.pytorch.loggers.tensorboard.save_hparams_to_yaml", no_space)
    write_text = Path.write_text
    monkeypatch.setattr(
        Path,
        "write_text",
        lambda path, *text, **how: (no_space if path.name == "config.yaml" else write_text)(path, *text, **how),
    )
    monkeypatch.setattr(dispensable.CURVES_MAY_FAIL, "noted", False)
    fit.main(arguments(corpus, tmp_path, **SHORT, attention__sentences=1))
    assert last_step_is_saved(tmp_path)
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert notes == ["note: cannot write curves or settings: No space left on device. Training goes on."]


def test_only_errors_of_the_system_are_dispensable() -> None:
    with pytest.raises(ValueError, match="a defect"), Dispensable("anything"):
        raise ValueError("a defect")


def test_a_run_folder_that_is_removed(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody tidies up while the run goes on: its last step is saved all the same."""
    removed = []

    def remove(_: saving.Checkpoints, trainer: Any, *__: object) -> None:
        run = run_folder(trainer)
        run.rename(tmp_path / "elsewhere")
        removed.append(run)

    monkeypatch.setattr(saving.Checkpoints, "on_validation_start", remove)
    fit.main(arguments(corpus, tmp_path, **SHORT))
    assert removed
    assert last_step_is_saved(removed[0])


def translated(run: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    translate.main(["--checkpoint", str(run), "--beam_size", "1"])
    return capsys.readouterr().out.split("\n")[:-1]


def test_notes_are_no_translations(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`2>&-` makes `sys.stderr` None, for which `print` writes to stdout."""
    lines = f"{' '.join(['cat'] * 2000)}\n{TEXT[0]}\n".encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    monkeypatch.setattr(sys, "stderr", None)
    assert len(translated(tiny_run, capsys)) == 2


def test_a_pipe_that_does_not_block(
    tiny_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As other programs leave it: there being nothing to read yet is not the end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(f"{TEXT[0]}\n{TEXT[1]}\n".encode())

    later = threading.Timer(0.5, write)
    with os.fdopen(reading, encoding="utf-8") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        # The text comes after the reading has begun.
        monkeypatch.setattr(input_lines, "arriving_lines", starting(later, arriving_lines))
        assert len(translated(tiny_run, capsys)) == 2
    later.join()


def starting(timer: threading.Timer, function: Callable[..., Any]) -> Callable[..., Any]:
    def started(*args: Any) -> Any:
        timer.start()
        return function(*args)

    return started


COMMANDS: dict[str, tuple[Callable[[list[str]], object], object, str]] = {
    "fit": (fit.main, TranslationData, "prepare_data"),
    "check": (check.main, TranslationData, "prepare_data"),
    "test": (test.main, torch, "load"),
    "translate": (translate.main, torch, "load"),
    "align": (align.main, torch, "load"),
    "attention": (attention.main, torch, "load"),
    "average": (average.main, torch, "load"),
}


class Interrupting(MetaPathFinder):
    """Ctrl-C comes when one of these modules is imported."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        if name in self.names:
            raise KeyboardInterrupt


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_while_torch_is_imported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heavy = (
        *("cli.reports", "cli.training", "checkpoints.places", "pretrained.places", "decoding.translator"),
        "analysis.alignment",
    )
    names = [f"lit_transformer.{module}" for module in heavy]
    for module in names:
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(*names), *sys.meta_path])
    with pytest.raises(SystemExit) as end:
        COMMANDS[name][0](command_line(name, tmp_path, tmp_path, tmp_path))
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def command_line(name: str, run: Path, corpus: Path, folder: Path) -> list[str]:
    checkpoint_option = ["--checkpoint", str(run)]
    return {
        "fit": arguments(corpus, folder),
        "check": arguments(corpus, folder),
        "test": [*checkpoint_option, "--corpus", str(corpus)],
        "translate": checkpoint_option,
        "align": [*checkpoint_option, "--demo", "test"],
        "attention": [*checkpoint_option, "--text", "a", "--output", str(folder / "a.json")],
        "average": ["--run", str(run), "--last", "1", "--output", str(folder / "average")],
    }[name]


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "fit"])
def test_ctrl_c(
    name: str,
    tiny_run: Path,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            if name == "check":  # as `datasets` does when it is interrupted
                raise TimeoutError

    main, place, function = COMMANDS[name]
    monkeypatch.setattr(place, function, interrupt)
    with pytest.raises(SystemExit) as end:
        main(command_line(name, tiny_run, corpus, tmp_path))
    assert end.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_matplotlib_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It warns where it finds no folder for its list of fonts."""
    for name in ("matplotlib", "matplotlib.font_manager"):
        with user_errors_to_exit():
            logging.getLogger(name).warning("in a command")
        logging.getLogger(name).warning("outside")
    assert caplog.messages == ["outside", "outside"]
