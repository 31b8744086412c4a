"""The limits that end a run in order, and what a start says that finds one reached."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.callbacks import timer as timer_module

from lit_transformer.fit import main
from lit_transformer.training.translation import LitTransformer
from tests.helpers.runs import Run, arguments, events, fit, own_lines

OFTEN = {
    "data__max_tokens_per_device": 230,  # two micro-batches per step
    "trainer__val_check_interval": 2,
    "checkpoints__every_n_train_steps": 2,
    "ckpt_path": "auto",
}
EARLY_STOPPING = """
trainer:
  callbacks:
    class_path: lightning.pytorch.callbacks.EarlyStopping
    init_args: {{monitor: val/loss, min_delta: 100.0, patience: {patience}}}
"""


def validated(run: Run) -> list[int]:
    """The steps of all points of the validation loss, also of equal ones."""
    return [event.step for event in events(run.folder).Scalars("val/loss")]


@pytest.mark.parametrize(
    ("hook", "expected"), [("on_validation_epoch_end", [2, 4]), ("on_train_batch_start", [2, 4, 5])]
)
def test_max_time_is_used_up(
    hook: str,
    expected: list[int],
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In the validation of step 4, or in the first micro-batch after it: each step is whole and validated once.

    The next start says what to raise, and goes on if it is raised.
    """
    seconds = 0.0
    monkeypatch.setattr(timer_module, "time", SimpleNamespace(monotonic=lambda: seconds))
    original = getattr(LitTransformer, hook)

    def pass_time(model: LitTransformer, *args: Any) -> Any:
        nonlocal seconds
        if model.trainer.global_step == 4:
            seconds = 1000.0
        return original(model, *args)

    monkeypatch.setattr(LitTransformer, hook, pass_time)
    run = fit(corpus, tmp_path, **OFTEN, trainer__max_time="00:00:10:00")
    assert validated(run) == expected
    assert run.output.count("  validation loss ") == len(expected)
    assert "trainer.max_time is used up" in run.output
    monkeypatch.setattr(LitTransformer, hook, original)
    capfd.readouterr()
    again = fit(corpus, tmp_path, **OFTEN, trainer__max_time="00:00:10:00")
    assert "trainer.max_time" not in again.output  # the note has the reason
    [note] = own_lines(capfd.readouterr().err)
    assert re.match(rf"note: .*step {expected[-1]}: trainer\.max_time .* 0:16:40: raise it", note)
    fit(corpus, tmp_path, **OFTEN, trainer__max_time="00:00:20:00", trainer__max_steps=6)
    assert validated(run) == [*expected, 6]


def test_early_stopping_stays(corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A job that is started again does not train on, except with more patience."""
    for patience, steps, notes in (
        (1, [2, 4], []),
        (1, [2, 4], ["val/loss .* 1 validation:"]),
        (2, [2, 4, 6], ["patience 1 -> 2$"]),
    ):
        (tmp_path / "early.yaml").write_text(EARLY_STOPPING.format(patience=patience))
        main(["--config", str(tmp_path / "early.yaml"), *arguments(corpus, tmp_path / "runs", **OFTEN)])
        said = own_lines(capfd.readouterr().err)
        assert len(said) == len(notes)
        assert all(re.search(pattern, line) for pattern, line in zip(notes, said, strict=True))
        assert validated(Run(tmp_path / "runs" / "version_0", "")) == steps


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"trainer__max_steps": 2}, r"trainer\.max_steps is 2"),
        ({"trainer__max_epochs": 1, "trainer__limit_train_batches": 2}, r"trainer\.max_epochs is 1"),
    ],
    ids=["steps", "epochs"],
)
def test_a_start_after_the_last_step_says_so(
    corpus: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], limit: dict[str, Any], said: str
) -> None:
    """It succeeds if the run has a checkpoint, and is an error if it would leave a run without one."""
    run = fit(corpus, tmp_path, **OFTEN, **limit)
    assert own_lines(capfd.readouterr().err) == []
    again = fit(corpus, tmp_path, **OFTEN, **limit)
    [note] = own_lines(capfd.readouterr().err)
    assert re.match(rf"note: .*step 2: {said}: raise", note)
    # It tells the best checkpoint of the earlier start.
    [best] = re.findall(r"^Checkpoint: (.*)$", run.output, re.MULTILINE)
    assert Path(best).exists()
    assert re.findall(r"^Checkpoint: (.*)$", again.output, re.MULTILINE) == [best]
    assert re.findall(r"^Best at step .*$", again.output, re.MULTILINE) == re.findall(
        r"^Best at step .*$", run.output, re.MULTILINE
    )
    with pytest.raises(SystemExit) as exit_status:
        fit(corpus, tmp_path / "other", **{**OFTEN, "ckpt_path": run.checkpoint(2)}, **limit)
    assert exit_status.value.code == 2
    [error] = own_lines(capfd.readouterr().err)
    assert re.match(rf"error: .*step 2: {said}: raise", error)


def test_the_time_left_is_that_of_the_first_limit(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timer_module, "time", SimpleNamespace(monotonic=lambda: 0.0))
    settings = {"trainer__max_steps": 10**9, "trainer__log_every_n_steps": 1, "trainer__max_time": "00:02:30:00"}
    left = r"  (\d+ h \d+ min|\d+ min|\d+ s) left"
    original = LitTransformer.on_train_batch_start

    def stop(model: LitTransformer, *args: Any) -> None:
        model.trainer.should_stop = model.trainer.global_step == 2
        original(model, *args)

    monkeypatch.setattr(LitTransformer, "on_train_batch_start", stop)
    output = fit(corpus, tmp_path / "time", **settings).output
    assert re.findall(left, output)[0] == "2 h 30 min"
    output = fit(corpus, tmp_path / "steps", **settings | {"trainer__max_steps": 5}).output
    assert re.fullmatch(r"\d+ s", re.findall(left, output)[-1])
    output = fit(corpus, tmp_path / "endless", **settings | {"trainer__max_steps": -1}).output
    assert re.findall(left, output)[0] == "2 h 30 min"
