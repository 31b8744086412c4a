"""Where runs lie: their numbers and names, and which of them a start continues."""

import re
import shutil
from pathlib import Path

import pytest

from lit_transformer.fit import main
from lit_transformer.runs.run_folder import STARTS, former_run
from tests.helpers.corpora import make_corpus
from tests.helpers.runs import SHORT, Run, arguments, fit, load, own_lines


@pytest.fixture(scope="module")
def short_run(corpus: Path) -> Run:
    return fit(corpus, corpus.parent / "short", **SHORT)


@pytest.fixture
def runs(short_run: Run, tmp_path: Path) -> Path:
    """A folder with one run, `version_0`."""
    root = tmp_path / "runs"
    shutil.copytree(short_run.folder, root / "version_0")
    return root


def test_a_second_start_is_a_new_run_and_says_so(corpus: Path, runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fit(corpus, runs, **SHORT)
    assert sorted(path.name for path in runs.iterdir()) == ["version_0", "version_1"]
    [note] = own_lines(capfd.readouterr().err)
    assert all(part in note for part in (str(runs / "version_0"), "version_1", "--name version_0 --ckpt_path auto"))


def test_a_named_run(corpus: Path, runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It begins under its name, is not overwritten, and goes on under it. `auto` sees no other run."""
    mine = Run(runs / "mine", "")
    changes = SHORT | {"name": "mine"}
    fit(corpus, runs, **changes, ckpt_path="auto")
    assert load(mine.checkpoint(4))["global_step"] == 4
    assert own_lines(capfd.readouterr().err) == []
    with pytest.raises(SystemExit) as exit_status:
        fit(corpus, runs, **changes)
    assert exit_status.value.code == 2
    [error] = own_lines(capfd.readouterr().err)
    assert re.match(rf"error: name is mine.*{runs / 'mine'}.*ckpt_path auto", error)
    # The other run is the newer one.
    shutil.copy(mine.checkpoint(4), runs / "version_0" / "checkpoints" / "step-00000009.ckpt")
    output = fit(corpus, runs, **changes | {"trainer__max_steps": 5}, ckpt_path="last").output
    assert f"resuming from {mine.checkpoint(4)}" in output
    assert mine.checkpoint(5).exists()
    assert len((mine.folder / STARTS).read_text().splitlines()) == 2
    assert sorted(path.name for path in runs.iterdir()) == ["mine", "version_0"]


@pytest.mark.parametrize("name", ["../other", "/other", "", "long", "nul"])
def test_a_name_that_is_no_folder_below_the_root(
    name: str, corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    name = {"long": "a" * 300, "nul": "a\0b"}.get(name, name)
    with pytest.raises(SystemExit) as exit_status:
        main(arguments(corpus, tmp_path / "runs", name=name))
    assert exit_status.value.code == 2
    [error] = own_lines(capfd.readouterr().err)
    assert "name" in error
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_run_of_an_earlier_version_goes_on_in_place(
    corpus: Path, runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    former = runs / "lightning_logs" / "version_0"
    former.parent.mkdir()
    (runs / "version_0").rename(former)
    for changes in ({"trainer__max_steps": 5}, {"trainer__max_steps": 6, "name": "lightning_logs/version_0"}):
        fit(corpus, runs, **SHORT | changes, ckpt_path="auto")
    assert Run(former, "").checkpoint(6).exists()
    assert [path.name for path in runs.iterdir()] == ["lightning_logs"]
    capfd.readouterr()
    fit(corpus, runs, **SHORT)
    assert "--name lightning_logs/version_0 " in capfd.readouterr().err


def test_the_former_run_is_the_one_that_was_written_to_last(runs: Path) -> None:
    assert former_run(runs / "version_0") is None
    shutil.copytree(runs / "version_0", runs / "mine")
    (runs / "mine" / "checkpoints" / "step-00000009.ckpt").touch()
    (runs / "file").touch()
    (runs / "without").mkdir()
    assert former_run(runs / "version_1") == runs / "mine"


@pytest.mark.parametrize("logger", ["true", "false"])
def test_the_folder_does_not_depend_on_the_logger(logger: str, tmp_path: Path) -> None:
    run = fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", **SHORT, trainer__logger=logger)
    names = {re.sub(r"^events\..*", "events", path.name) for path in run.folder.iterdir()}
    assert names - {"events", "hparams.yaml"} == {"checkpoints", "config.yaml", STARTS}
    assert ("events" in names) == (logger == "true")


def test_a_refused_start_deletes_only_what_it_has_written(corpus: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine" / "config.yaml"
    own.parent.mkdir()
    own.write_text("of the user's")
    refused = {**SHORT, "trainer__callbacks": "BackboneFinetuning"}
    for name in ("mine", "other"):
        with pytest.raises(SystemExit):
            fit(corpus, tmp_path, **refused, name=name)
    assert own.exists()
    assert not (tmp_path / "other").exists()
