"""What jsonargparse says about a setting, in one short line."""

from pathlib import Path

import pytest

from lit_transformer.cli.parser_errors import condensed
from lit_transformer.cli.training import FitCLI, parse
from lit_transformer.errors import UserError


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--trainer.callbacks=EarlyStopping"], ["EarlyStopping", "--trainer.callbacks.monitor"]),
        (["--trainer.callbacks=EarlyStoping"], ["EarlyStoping", "did you mean EarlyStopping?"]),
        (["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitr=x"], ["monitr", "did you mean monitor?"]),
        (["--trainer.profiler=SimpleProfiler", "--trainer.profiler.filname=x"], ["filname", "did you mean filename?"]),
        (
            ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=x", "--trainer.callbacks.patience=x"],
            ["patience is x", "a whole number"],
        ),
        (["--trainer.precision=nonsense"], ["trainer.precision is nonsense", "bf16-mixed"]),
        (["--trainer.limit_val_batches=many"], ["trainer.limit_val_batches is many", "a number"]),
        (["--seed_everything=x"], ["seed_everything is x", "true or false", "a whole number"]),
        (["--trainer.callbacks=Timer", "--trainer.callbacks.interval=x"], ["Timer", "interval=x"]),
    ],
)
def test_a_reason_in_place_of_types(tmp_path: Path, given: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        parse(["--config=copy", f"--trainer.default_root_dir={tmp_path}", *given], FitCLI)
    message = str(error.value)
    assert all(word in message for word in words), message
    assert len(message.splitlines()) == 1
    assert "class '" not in message
    assert len(message) < 250


def test_other_messages_stay() -> None:
    assert condensed("`devices` should be an int > 0") == "`devices` should be an int > 0"
