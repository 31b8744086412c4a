"""The parser of the settings of `fit` and `check`, and the values that Lightning rejects late or not at all."""

import inspect
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from tempfile import TemporaryFile
from typing import Any, NoReturn

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import callbacks, loggers, plugins, profilers, strategies
from lightning.pytorch.callbacks import (
    BasePredictionWriter,
    BatchSizeFinder,
    Callback,
    GradientAccumulationScheduler,
    LearningRateFinder,
    SpikeDetection,
    StochasticWeightAveraging,
    Timer,
)
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger
from torch import optim
from torch.optim import lr_scheduler

from lit_transformer.cli.parser_errors import CLASS, condensed
from lit_transformer.cli.recipes import recipe_path
from lit_transformer.cli.sections import NO_EFFECT, TRAINER_DEFAULTS, VAL_CHECK_INTERVAL, settings_of
from lit_transformer.cli.suggestions import did_you_mean, suggest_option
from lit_transformer.cli.tasks import TASKS, find_task
from lit_transformer.data.accumulation import check_accumulation
from lit_transformer.errors import UserError
from lit_transformer.files import existing_folder, expanded
from lit_transformer.notes import print_note
from lit_transformer.runs.parts import callbacks_of, package_of
from lit_transformer.runs.private_names import launches_commands
from lit_transformer.runs.run_folder import check_name

UNUSABLE: dict[type[Callback], str] = {
    StochasticWeightAveraging: "its average is complete only after the last checkpoint is written; take "
    "EMAWeightAveraging, or average checkpoints afterwards (python -m lit_transformer.average)",
    GradientAccumulationScheduler: "data.max_tokens_per_device sets the number of micro-batches",
    BatchSizeFinder: "data.max_tokens_per_device auto finds the size of micro-batches",
    LearningRateFinder: "model.learning_rate and model.schedule set the learning rate",
    Timer: "trainer.max_time sets the same limit, and ends the run between optimizer steps",
    SpikeDetection: "Lightning cannot read its state back to resume; a run whose loss stays high ends anyway",
    BasePredictionWriter: "fit does not predict; python -m lit_transformer.translate writes translations",
}
"""Callbacks of Lightning that cannot do their work here, with the reasons."""


CLASSES = {
    "model.optimizer": optim.__all__,
    "model.schedule": lr_scheduler.__all__,
    "trainer.callbacks": callbacks.__all__,
    "trainer.logger": loggers.__all__,
    "trainer.plugins": plugins.__all__,
    "trainer.profiler": profilers.__all__,
    "trainer.strategy": strategies.__all__,
}
"""Names of classes that a setting takes, for suggestions."""
RENAMED = {
    "checkpoints.keep": "checkpoints.save_top_k",
    "checkpoints.every_n_steps": "checkpoints.every_n_train_steps",
}
"""Settings of version 0.1, and their names now."""
INTERVALS = ("every_n_train_steps", "every_n_epochs", "train_time_interval")
"""Settings of the sections of checkpoints of which one counts."""
_NUMBER = r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"


class Parser(LightningArgumentParser):
    """A parser whose errors are user errors."""

    def add_class_arguments(self, class_type: type, *args: Any, **kwargs: Any) -> list[str]:
        """Add the arguments of a class. A logger that demands its folder may be named without it."""
        is_logger = inspect.isclass(class_type) and issubclass(class_type, Logger)
        if not is_logger or "save_dir" not in inspect.signature(class_type).parameters:
            return super().add_class_arguments(class_type, *args, **kwargs)
        kwargs["skip"] = {*(kwargs.get("skip") or ()), "save_dir"}
        added = super().add_class_arguments(class_type, *args, **kwargs)
        self.add_argument("--save_dir", type=str | None, default=None, help="Default: the folder of the run.")
        return [*added, "save_dir"]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        expected = r"Expected a <class 'int'>"
        number = re.search(rf'Parser key "([\w.]+)":.*{expected}.*value: ({_NUMBER})$', message, re.DOTALL)
        if number:
            raise UserError(not_whole(number[1], float(number[2])))
        # On the command line the name is whole. In a YAML file the section and the name are apart.
        if any(re.search(r"\b" + name.replace(".", r"\b.*\b") + r"\b", message) for name in RENAMED):
            raise UserError(
                f"settings have new names: {', '.join(f'{old} is now {new}' for old, new in RENAMED.items())}"
            )
        options, reason = self._option_string_actions, condensed(message)
        if unknown := re.match(rf"([\w.]+) is ([\w.]+): .*{CLASS}", reason):
            choices = re.findall(r"[\w-]+", reason.partition("one of ")[2])
            suggestion = did_you_mean(unknown[2], [*CLASSES.get(unknown[1], ()), *choices])
        else:
            # A misspelt name in a YAML file appears only in the message, in quotes, as values do.
            named = (
                did_you_mean(name, options, cutoff=0.75)
                for name in re.findall(r"'([\w.]+)'", reason)
                if f"--{name}" not in options
            )
            # The parser of a class that a setting names has no arguments of the command.
            arguments = getattr(self, "args", [])
            suggestion = (
                suggest_option(arguments, options) or next(filter(None, named), "") or name_other_task(arguments)
            )
        if "must be text" in reason:  # such as the language code `no`
            suggestion += "; YAML reads no, on, 1e5 and 1:30 as text only in quotation marks: quote the value"
        raise UserError(f"{reason}{suggestion} (all settings: --print_config)")


def name_other_task(arguments: Sequence[str]) -> str:
    """The end of an error message if an argument is a setting of another task."""
    task = find_task(arguments)
    for name in (argument.partition("=")[0].removeprefix("--") for argument in arguments if argument[:2] == "--"):
        owners = [other.name for other in TASKS.values() if name in settings_of(other)]
        if owners and task.name not in owners:
            return f"; {name} belongs to the task {owners[0]}, and this run has the task {task.name}"
    return ""


def spelled_out(args: Sequence[str]) -> list[str]:
    """The arguments with `--trainer.devices` for `--devices`, and with the file of each recipe for its name.

    Arguments before the first option are values of `--config`.
    An interval between checkpoints clears the others, because a recipe may have set one of them.
    """
    written_out: list[str] = []
    while args and not args[0].startswith("-"):
        written_out.append(f"--config={recipe_path(args[0])}")
        args = args[1:]
    for previous, argument in pairwise(["", *args]):
        if previous in ("-c", "--config"):
            written_out.append(recipe_path(argument))
        elif argument.startswith("--config="):
            written_out.append(f"--config={recipe_path(argument.removeprefix('--config='))}")
        elif argument == "--devices" or argument.startswith("--devices="):
            written_out.append(f"--trainer.{argument.removeprefix('--')}")
        else:
            section, _, name = argument.partition("=")[0].removeprefix("--").partition(".")
            if section in ("checkpoints", "best_checkpoint") and name in INTERVALS:
                written_out += [f"--{section}.{other}=null" for other in INTERVALS if other != name]
            written_out.append(argument)
    return written_out


def check_settings(settings: Namespace) -> None:
    """Complete the settings, and raise UserError for values that Lightning rejects late or not at all."""
    sections = ["best_checkpoint.monitor", "checkpoints.monitor"]
    if settings.task not in TASKS:
        raise UserError(f"task is {settings.task}: it must be one of {', '.join(TASKS)}, on a line of its own")
    if TASKS[settings.task].has_attention_curves:
        sections.append("attention.sentences")
    for name in ("model.transformer.d_model", "data.corpus", "trainer.max_steps", *sections):
        if name not in settings:
            raise UserError(f"{name} is not set: {name.rpartition('.')[0]} must be a section (--print_config)")
    if not 0 <= int(settings.seed_everything) < 2**32:
        raise UserError(f"--seed_everything is {settings.seed_everything}: it must be from 0 to 4294967295")
    set_validation_times(settings.trainer)
    check_intervals(settings.trainer)
    check_trainer_settings(settings.trainer)
    if (settings.trainer.gradient_clip_val or 0) < 0:
        raise UserError(f"trainer.gradient_clip_val is {settings.trainer.gradient_clip_val}: it must be at least 0")
    for name in ("trainer.default_root_dir", "data.cache_dir", "data.tokenizer", "data.source_tokenizer", "ckpt_path"):
        expanded(settings.get(name) or "")
    root = settings.trainer.default_root_dir
    check_name(expanded(root), settings)
    try:
        TemporaryFile(dir=existing_folder(root)).close()
    except (OSError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"trainer.default_root_dir {root} cannot be written: {reason}; choose another") from error


def set_validation_times(trainer: Namespace) -> None:
    """Complete `val_check_interval` and `check_val_every_n_epoch`: a share of an epoch is one of every epoch."""
    if trainer.val_check_interval is None:
        trainer.val_check_interval = VAL_CHECK_INTERVAL if trainer.check_val_every_n_epoch is None else 1.0
    if isinstance(trainer.val_check_interval, float) and trainer.check_val_every_n_epoch is None:
        trainer.check_val_every_n_epoch = 1


def check_trainer_settings(trainer: Namespace) -> None:
    """Raise UserError for values of the trainer that contradict each other or the machine."""
    if trainer.num_sanity_val_steps < -1:
        raise UserError(f"trainer.num_sanity_val_steps is {trainer.num_sanity_val_steps}: it must be at least -1")
    for unit in ("steps", "epochs"):
        least, most = trainer[f"min_{unit}"] or 0, trainer[f"max_{unit}"] or -1
        if 0 < most < least:
            raise UserError(f"trainer.min_{unit} is {least}, and trainer.max_{unit} is {most}: raise the latter")
    if trainer.profiler == "xla":
        raise UserError("trainer.profiler is xla, which profiles TPUs: give simple, advanced or pytorch")


def check_intervals(trainer: Namespace) -> None:
    """Raise UserError unless intervals and limits can be numbers of steps, epochs or batches, or shares of an epoch."""
    if not isinstance(trainer.val_check_interval, int | float):
        raise UserError(
            f"trainer.val_check_interval is {trainer.val_check_interval}: give a number of optimizer steps, or a share "
            "of an epoch"
        )
    limits = [name for name in vars(trainer) if name.startswith("limit_")]
    for name in ("val_check_interval", "overfit_batches", *limits):
        if isinstance(trainer[name], float) and trainer[name] > 1:
            raise UserError(not_whole(f"trainer.{name}", trainer[name]))
        if (trainer[name] or 0) < 0:
            raise UserError(f"trainer.{name} is {trainer[name]}: it must be at least 0")
    for name in ("max_steps", "max_epochs", "val_check_interval", "check_val_every_n_epoch", "log_every_n_steps"):
        endless = name in ("max_steps", "max_epochs") and trainer[name] == -1
        if trainer[name] is not None and not trainer[name] > 0 and not endless:
            raise UserError(f"trainer.{name} is {trainer[name]}: it must be at least 1")
    if trainer.limit_train_batches == 0:
        raise UserError("trainer.limit_train_batches is 0, so nothing would be trained: give more, or leave it out")


def note_settings_without_effect(trainer: Namespace) -> None:
    """Print a note about settings that other programs with Lightning's trainer know, and that change nothing here."""
    parameters = inspect.signature(L.Trainer).parameters
    for name, reason in NO_EFFECT.items():
        if trainer[name] != TRAINER_DEFAULTS.get(name, parameters[name].default):
            print_note(f"trainer.{name} {trainer[name]} has no effect, because {reason}")
    if trainer.gradient_clip_algorithm is not None and trainer.gradient_clip_val is None:
        print_note("trainer.gradient_clip_algorithm has no effect without trainer.gradient_clip_val")


def check_trainer(trainer: L.Trainer, strategy: str | Namespace) -> None:
    """Raise UserError for parts of the trainer that cannot work.

    Args:
        trainer: Has the parts.
        strategy: The user's setting.
    """
    if not launches_commands(trainer):
        raise UserError(
            f"trainer.strategy is {getattr(strategy, 'class_path', strategy)}: it copies the first process, which is "
            "not supported. Give ddp, or one device in a notebook"
        )
    if (chosen := type(trainer.strategy.checkpoint_io)) is not TorchCheckpointIO:
        raise UserError(f"trainer.plugins names {chosen.__name__}, but fit writes checkpoints itself: leave it out")
    check_accumulation(trainer)
    for kind, reason in UNUSABLE.items():
        if any(package_of(callback) != "lit_transformer" for callback in callbacks_of(trainer, kind)):
            raise UserError(f"trainer.callbacks names {kind.__name__}, which cannot be used: {reason}")
    cores = os.cpu_count() or 1  # of the machine: launchers may bind each rank to a part of them
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cores:
        raise UserError(
            f"trainer.devices is {trainer.num_devices}, and this machine has no GPU and {cores} cores: "
            f"give at most {cores}"
        )


def not_whole(name: str, value: float) -> str:
    """Describe a setting such as 1e5 or 2.0 in place of a whole number."""
    example = f", as in {value:.0f}" if value.is_integer() else ""
    return f"{name} is {value}: it must be a whole number, written without a point and without an exponent{example}"
