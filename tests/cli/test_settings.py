"""Which settings of Lightning are refused, because they would do nothing or something else."""

from pathlib import Path

import pytest

from lit_transformer.cli.settings import UNUSABLE
from lit_transformer.cli.training import CheckCLI, FitCLI, parse
from lit_transformer.errors import UserError
from tests.helpers.runs import arguments

ARGUMENTS = {"StochasticWeightAveraging": {"swa_lrs": 0.01}, "GradientAccumulationScheduler": {"scheduling": {0: 2}}}


@pytest.mark.parametrize("name", [kind.__name__ for kind in UNUSABLE])
def test_callbacks_that_cannot_do_their_work(corpus: Path, tmp_path: Path, name: str) -> None:
    """Averaging at the ends of epochs gave the weights before the first step."""
    recipe = tmp_path / "callback.yaml"
    callback = {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": ARGUMENTS.get(name, {})}
    recipe.write_text(f"trainer: {{callbacks: [{callback}]}}")
    with pytest.raises(UserError, match=rf"names {name}\b"):
        parse([*arguments(corpus, tmp_path), "--config", str(recipe)], FitCLI)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--trainer.callbacks=Timer", "--trainer.callbacks.duration=ten"], "'ten'"),
        (["--trainer.callbacks=OnExceptionCheckpoint"], "dirpath"),
        (["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=nowhere://x"], "nowhere"),
    ],
)
def test_arguments_of_a_class_that_a_setting_names(corpus: Path, tmp_path: Path, given: list[str], said: str) -> None:
    """The class itself refuses them."""
    with pytest.raises(UserError, match=said):
        parse([*arguments(corpus, tmp_path), *given], FitCLI)


@pytest.mark.parametrize("name", ["min_epochs", "max_epochs", "check_val_every_n_epoch"])
def test_numbers_of_epochs(corpus: Path, tmp_path: Path, name: str) -> None:
    """Training has no epochs. The last one would validate never."""
    with pytest.raises(UserError, match=rf"^trainer\.{name} is 2: .*trainer\.\w+$"):
        parse([*arguments(corpus, tmp_path), f"--trainer.{name}=2"], FitCLI)


@pytest.mark.parametrize("cli", [FitCLI, CheckCLI])
@pytest.mark.parametrize("number", [0, 2])
def test_a_number_of_micro_batches(corpus: Path, tmp_path: Path, cli: type[FitCLI], number: int) -> None:
    """It follows from their size, in `check` as in `fit`."""
    with pytest.raises(UserError, match=r"accumulate_grad_batches .*max_tokens_per_device"):
        parse([*arguments(corpus, tmp_path), f"--trainer.accumulate_grad_batches={number}"], cli)
