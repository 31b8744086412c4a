"""Which settings of Lightning are refused, because they would do nothing or something else."""

from pathlib import Path

import pytest

from lit_transformer.cli.sections import VAL_CHECK_INTERVAL
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
    ],
)
def test_arguments_of_a_class_that_a_setting_names(corpus: Path, tmp_path: Path, given: list[str], said: str) -> None:
    """The class itself refuses them."""
    with pytest.raises(UserError, match=said):
        parse([*arguments(corpus, tmp_path), *given], FitCLI)


@pytest.mark.parametrize(
    ("given", "every", "epochs"),
    [
        ([], VAL_CHECK_INTERVAL, None),
        (["--trainer.val_check_interval=7"], 7, None),
        (["--trainer.val_check_interval=1"], 1, None),
        (["--trainer.val_check_interval=0.5"], 0.5, 1),
        (["--trainer.val_check_interval=1.0"], 1.0, 1),
        (["--trainer.check_val_every_n_epoch=2"], 1.0, 2),
        (["--trainer.check_val_every_n_epoch=2", "--trainer.val_check_interval=7"], 7, 2),
        (["--trainer.check_val_every_n_epoch=2", "--trainer.val_check_interval=0.5"], 0.5, 2),
    ],
)
def test_times_of_validation(
    corpus: Path, tmp_path: Path, given: list[str], every: int | float, epochs: int | None
) -> None:
    """Steps of the run, or parts of an epoch. What is written without a point is a number of steps."""
    own = arguments(corpus, tmp_path)
    del own[(place := own.index("--trainer.val_check_interval")) : place + 2]
    trainer = parse([*own, *given], FitCLI).trainer
    assert (trainer.val_check_interval, trainer.check_val_every_n_epoch) == (every, epochs)
    assert isinstance(trainer.val_check_interval, type(every))


@pytest.mark.parametrize("name", ["limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches"])
def test_one_batch_is_not_all_batches(corpus: Path, tmp_path: Path, name: str) -> None:
    recipe = tmp_path / "limit.yaml"
    recipe.write_text(f"trainer: {{{name}: 1}}")
    for given in ([f"--trainer.{name}=1"], [f"--trainer.{name}", "1"], ["--config", str(recipe)]):
        limit = getattr(parse([*arguments(corpus, tmp_path), f"--trainer.{name}=0.5", *given], FitCLI).trainer, name)
        assert limit == 1
        assert isinstance(limit, int)


@pytest.mark.parametrize("cli", [FitCLI, CheckCLI])
@pytest.mark.parametrize("number", [0, 2])
def test_a_number_of_micro_batches(corpus: Path, tmp_path: Path, cli: type[FitCLI], number: int) -> None:
    """It follows from their size, in `check` as in `fit`."""
    with pytest.raises(UserError, match=r"accumulate_grad_batches .*max_tokens_per_device"):
        parse([*arguments(corpus, tmp_path), f"--trainer.accumulate_grad_batches={number}"], cli)
