"""The loggers that settings name. They are made when the run's folder is known, in which they write by default."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from lit_transformer.cli.frame import in_one_line
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.loggers import FILES, begin_csv, finish_wandb, former_versions, placed
from lit_transformer.runs.ranks import on_all_ranks

DEFAULT = {
    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
    "init_args": {"save_dir": None, "name": "lightning_logs", "version": None},
}
PACKAGES = {WandbLogger: "wandb", MLFlowLogger: "mlflow"}
"""Packages of loggers. The extras have the same names."""


def named_loggers(settings: Namespace) -> list[dict[str, Any]]:
    """Return the loggers that `trainer.logger` names, or Lightning's default."""
    named = settings.trainer.logger
    if isinstance(named, bool | None):
        return [] if named is False else [DEFAULT]
    return [each.as_dict() for each in (named if isinstance(named, list) else [named])]


def check_packages(settings: Namespace) -> None:
    """Raise UserError if the package of a logger is not installed."""
    for named in named_loggers(settings):
        package = PACKAGES.get(_class_of(named))
        if package and find_spec(package) is None:
            raise UserError(
                f"trainer.logger names {_class_of(named).__name__}, and the package {package} is not installed: "
                f"pip install -e '.[{package}]'"
            )


@contextmanager
def loggers_attached(
    trainer: L.Trainer, settings: Namespace, folder: Path, continued: tuple[Path, int] | None
) -> Iterator[None]:
    """Give the trainer the loggers that the settings name, and end those that outlive a run.

    Args:
        trainer: Keeps its own in `fast_dev_run` and `barebones`, in which nothing is logged.
        settings: Those of the start.
        folder: The run's.
        continued: As in `claimed_folder`.

    Raises:
        UserError: A logger cannot be made, or its server cannot be reached. All ranks raise it.
    """
    if not (trainer.fast_dev_run or trainer.barebones):  # type: ignore[attr-defined] # set, but not declared
        trainer.loggers = on_all_ranks(lambda: _made(settings, folder, continued))
    with finish_wandb(trainer.loggers):
        on_all_ranks(lambda: _begun(trainer, continued))
        yield


def _made(settings: Namespace, folder: Path, continued: tuple[Path, int] | None) -> list[Logger]:
    loggers: list[Logger] = []
    former = former_versions(folder)
    for named in named_loggers(settings):
        kind, given = _class_of(named), named.get("init_args", {})
        version = next((version for name, version in former if name == kind.__name__), None)
        former = [(name, each) for name, each in former if each != version]
        arguments = {**given, **named.get("dict_kwargs", {})}
        arguments |= placed(kind, given, folder, expanded(settings.trainer.default_root_dir), version)
        if issubclass(kind, TensorBoardLogger) and continued:
            arguments["purge_step"] = continued[1]
        with in_one_line(f"trainer.logger {kind.__name__}"):
            loggers.append(kind(**arguments))
    # Lightning calls these methods, too.
    for logger in loggers:
        for method in ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize"):
            setattr(logger, method, CURVES_MAY_FAIL(getattr(logger, method)))
    return loggers


def _begun(trainer: L.Trainer, continued: tuple[Path, int] | None) -> None:
    """Connect loggers with their files or servers. Only rank 0 does."""
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            with CURVES_MAY_FAIL:
                begin_csv(logger, first_step=continued[1] if continued else 0)
        elif not isinstance(logger, FILES):
            with in_one_line(f"trainer.logger {type(logger).__name__}"):
                getattr(logger, "experiment", None)


def _class_of(named: dict[str, Any]) -> Any:
    module, _, name = named["class_path"].rpartition(".")
    return getattr(import_module(module), name)
