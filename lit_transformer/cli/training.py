"""The command line of `fit` and `check`: its sections, and what it makes of them."""

import logging
import os
import secrets
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint, ProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.plugins import Precision

from lit_transformer.checkpoints.format import read_checkpoint
from lit_transformer.cli.frame import in_one_line
from lit_transformer.cli.loggers import check_packages
from lit_transformer.cli.sections import NO_SETTINGS, TRAINER_DEFAULTS
from lit_transformer.cli.settings import (
    Parser,
    check_settings,
    check_trainer,
    note_settings_without_effect,
    spelled_out,
)
from lit_transformer.cli.tasks import find_task, task_of
from lit_transformer.cli.trained_models import as_arguments, resumed_checkpoint, take_model, take_vocabularies
from lit_transformer.data.loaders import LoadedData
from lit_transformer.errors import UserError
from lit_transformer.model.config import longest_sequence
from lit_transformer.notes import print_note
from lit_transformer.runs.attention_curves import AttentionCurves
from lit_transformer.runs.changed_settings import ChangedSettings
from lit_transformer.runs.compiling import CompiledGraphs
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.divergence import Divergence
from lit_transformer.runs.fit_to_memory import FitToMemory
from lit_transformer.runs.launching import devices_of_torchrun, flat
from lit_transformer.runs.limits import Limits, TimeLimit
from lit_transformer.runs.live_bar import LiveBar
from lit_transformer.runs.loggers import write_settings
from lit_transformer.runs.monitors import Monitors
from lit_transformer.runs.parts import callback_of
from lit_transformer.runs.private_names import cpu_multiplies_bfloat16
from lit_transformer.runs.progress import Progress
from lit_transformer.runs.provenance import RunRecord
from lit_transformer.runs.resuming import Resuming
from lit_transformer.runs.run_folder import RunFolder, run_folder
from lit_transformer.runs.saving import BestCheckpoint, Checkpoints, LastStep
from lit_transformer.runs.stopping import Interruption
from lit_transformer.training.module import LitModel
from lit_transformer.training.translation import LitTransformer

MOST_DEVICES = 1_000_000
"""More than any cluster has. The time and memory of `check` grow with the number."""


MESSAGES = {
    "lightning.pytorch": logging.WARNING,
    "lightning.pytorch.callbacks": logging.INFO,
    "lightning.pytorch.profilers": logging.INFO,
    "lightning.pytorch.utilities.rank_zero": logging.INFO,
    "lightning.fabric": logging.WARNING,
    # The launcher that ends a run because one of its processes has died reports it there.
    "lightning.fabric.strategies.launchers": logging.INFO,
}
"""The levels of Lightning's loggers."""


class Settings(SaveConfigCallback):
    """Writes the settings into the run's folder, as `config.yaml` to train with again, and to the loggers."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._folder = run_folder(trainer)  # all ranks must ask
        super().setup(trainer, pl_module, stage)

    @CURVES_MAY_FAIL
    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        text = self.parser.dump(self.config, skip_none=False)
        (self._folder / self.config_filename).write_text(text, encoding="utf-8")
        sections = {name: value for name, value in self.config.as_dict().items() if name != "config"}
        settings = flat(sections)
        for logger in trainer.loggers if trainer.enable_autolog_hparams else []:
            write_settings(logger, settings)


class FitCLI(LightningCLI):
    """Sections for model, data, trainer and three callbacks. A value is set once and linked to the others."""

    model: LitModel
    datamodule: LoadedData
    trainer: L.Trainer

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        self.task = task_of(cast(type, self.model_class))
        parser.add_lightning_class_args(BestCheckpoint, "best_checkpoint")
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        if self.task.has_attention_curves:
            parser.add_lightning_class_args(AttentionCurves, "attention")
        parser.add_argument("--task", type=str, default=self.task.name)
        parser.add_argument("--name", type=str | None, default=None)
        parser.add_argument("--ckpt_path", type=str | None, default=None)
        parser.add_argument("--init_from", type=str | None, default=None)
        for name in ("vocab_size", "source_vocab_size", "image_size", "num_channels"):
            if all(f"{section}.{name}" in parser.get_defaults() for section in ("model", "data")):
                parser.link_arguments(f"model.{name}", f"data.{name}")
        if "data.max_positions" in parser.get_defaults():
            parser.link_arguments(
                ("model.transformer.positions", "model.transformer.max_positions"),
                "data.max_positions",
                compute_fn=longest_sequence,
            )
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        with in_one_line("the settings cannot be read"):
            super().parse_arguments(parser, args)
            draw_seed(self.config)
        check_settings(self.config)
        check_packages(self.config)
        self.taken = take_model(self.config)
        taken = self.taken.settings if self.taken else take_vocabularies(self.config)
        if taken:  # parsed again, because other settings follow from these
            taken["seed_everything"] = self.config.seed_everything  # it may have been drawn
            super().parse_arguments(parser, [*cast(list[str], args), *as_arguments(taken)])

    def instantiate_classes(self) -> None:
        # `loggers_attached` makes those that are named, which depend on the run's folder.
        chosen = self.config.trainer.logger
        self.config.trainer.logger = chosen if isinstance(chosen, bool | None) else True
        # The parser accepts `null` where there must be a number. Classes that settings name check their arguments.
        refusals = (TypeError, ValueError, ImportError, MisconfigurationException)
        with in_one_line("a setting has no value or a value that cannot be used", *refusals):
            super().instantiate_classes()
        self.config.trainer.logger = chosen
        for part in (self.model, self.datamodule):
            part.save_hyperparameters({}, logger=False)  # `Settings` gives loggers all settings
        # The data take from the model what is not given, also before the trainer runs.
        self.trainer.strategy.connect(self.model)
        self.datamodule.trainer = self.trainer
        if self.taken and not self.taken.is_resumed:
            trained, model = self.taken.trained, cast(LitTransformer, self.model)
            model.transformer.load_state_dict(trained.transformer.state_dict())
            model.search = trained.search
            # The weights are in memory once.
            self.taken = self.taken._replace(trained=replace(trained, transformer=model.transformer))
            callback_of(self.trainer, RunRecord).record_origin(self.taken.record)

    def instantiate_trainer(self, **settings: Any) -> L.Trainer:
        """Set what depends on the machine, and make the trainer."""
        given, named = self.config.trainer, self._named_precisions()
        if given.precision is not None and named:
            raise UserError(
                f"trainer.precision is {given.precision}, and trainer.plugins or trainer.strategy names {named[0]}: "
                "leave one of them out"
            )
        if given.precision is None and not named:
            settings["precision"] = "bf16-mixed" if has_bfloat16(given.accelerator) else "32-true"
        settings = {**devices_of_torchrun(given.devices, given.num_nodes), **settings}
        callbacks = self.config_init.trainer.callbacks or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        brings_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
        if not brings_bar:
            settings["enable_progress_bar"] = False  # not one of Lightning's
        if given.barebones:
            settings["log_every_n_steps"] = None  # Lightning refuses any interval, and recipes have one
        with in_one_line("trainer"):
            if given.max_time is not None:
                settings["callbacks"] = [*callbacks, TimeLimit(self.config_init.trainer.max_time)]
            if given.enable_checkpointing is False or given.barebones:
                self.parser.callback_keys = [key for key in self.parser.callback_keys if "checkpoint" not in key]
            trainer = super().instantiate_trainer(**settings)
        parts: list[Callback] = trainer.callbacks  # type: ignore[attr-defined] # set, but not declared
        if not brings_bar and wants_bar(given):
            parts.append(LiveBar())
        parts.insert(0, LastStep())
        # `trainer.checkpoint_callback` is the first one. The user's callbacks come before those of the sections.
        parts.sort(key=lambda part: (isinstance(part, Checkpoint), not isinstance(part, BestCheckpoint)))
        own = flat(self.config.as_dict())
        callback_of(trainer, ChangedSettings).record({name: own[name] for name in own if name not in NO_SETTINGS})
        check_trainer(trainer, given.strategy)
        if trainer.is_global_zero:
            note_settings_without_effect(given)
        return trainer

    def _named_precisions(self) -> list[str]:
        """The classes of precision plugins that the settings name, in the plugins or in the strategy."""
        plugins, strategy = self.config_init.trainer.plugins, self.config.trainer.strategy
        plugins = plugins if isinstance(plugins, list) else [plugins]
        part = strategy.init_args.get("precision_plugin") if isinstance(strategy, Namespace) else None
        return [*(type(p).__name__ for p in plugins if isinstance(p, Precision)), *([part.class_path] if part else [])]


class CheckCLI(FitCLI):
    """The settings of `fit`. The devices are counted and not used."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument("--tokens_per_second", type=float | None, default=None)

    def instantiate_trainer(self, **settings: Any) -> L.Trainer:
        asked = str(self.config.trainer.devices)
        here = max(torch.cuda.device_count(), 1)
        self.devices = int(self.config.trainer.num_nodes) * (int(asked) if asked.isdecimal() else here)
        if not 1 <= self.devices <= MOST_DEVICES:
            raise UserError(
                f"trainer.devices x trainer.num_nodes is {self.devices}: it must be from 1 to {MOST_DEVICES:,}"
            )
        rate = self.config.tokens_per_second
        if rate is not None and rate <= 0:
            raise UserError(f"--tokens_per_second is {rate}: it must be above 0")
        return super().instantiate_trainer(**settings, devices=1, num_nodes=1, logger=False)


def draw_seed(settings: Namespace) -> None:
    """Choose a random seed if `seed_everything` is `true` or `false`, and print and record it.

    A run that is resumed keeps its own. Lightning would take 0 for `true`, and seed nothing for `false`. But a run is a
    function of its seed.
    """
    if isinstance(settings.seed_everything, bool):
        # A process that Lightning has started inherits the seed of the first one.
        inherited = os.environ.get("PL_GLOBAL_SEED") if "LOCAL_RANK" in os.environ else None
        seed = int(inherited or secrets.randbelow(2**32))
        if not inherited and (resumed := resumed_checkpoint(settings)):
            callbacks = read_checkpoint(resumed)["callbacks"]
            seed = callbacks.get(ChangedSettings.__name__, {}).get("settings", {}).get("seed_everything", seed)
        if not inherited:
            print_note(f"the random seed of this run is {seed} (--seed_everything {seed} repeats it)")
        settings.seed_everything = settings.model.seed = settings.data.seed = seed


CLI = TypeVar("CLI", bound=FitCLI)


def parse(args: Sequence[str], cli: type[CLI]) -> CLI:
    """Make the model, the data and the trainer from arguments and their YAML files."""
    show_messages()
    # The warning is about two lists of arguments. In sys.argv there may be those of another program, such as Jupyter.
    warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended", UserWarning)
    # With `OnExceptionCheckpoint`, Lightning looks for its checkpoint. `fit` has done so already.
    for search in (r"`\.fit\(ckpt_path=None\)` was called without a model", r"\.fit\(ckpt_path=.last.\) is set, but"):
        warnings.filterwarnings("ignore", search, UserWarning)
    callbacks = [
        RunFolder(),
        RunRecord(),
        Resuming(),
        ChangedSettings(),
        CompiledGraphs(),
        FitToMemory(),
        Divergence(),
        Progress(),
        Limits(),
        Monitors(),
        Interruption(),
    ]
    model, data = find_task(args).classes
    return cli(
        model,
        data,
        parser_class=Parser,
        parser_kwargs={"allow_abbrev": False},
        trainer_defaults={**TRAINER_DEFAULTS, "callbacks": callbacks},
        save_config_callback=Settings,
        save_config_kwargs={"save_to_log_dir": False},  # `Settings` writes it
        seed_everything_default=1,
        auto_configure_optimizers=False,
        load_from_checkpoint_support=False,
        run=False,
        args=spelled_out(args),
    )


def wants_bar(trainer: Namespace) -> bool:
    """Whether the trainer's settings ask for a live bar. By default, a terminal has one."""
    asked: bool | None = trainer.enable_progress_bar
    return sys.stderr.isatty() and not trainer.barebones if asked is None else asked


def show_messages() -> None:
    """Show the warnings of Lightning, and what its callbacks and profilers report. Its trainer reports much more."""
    for name, level in MESSAGES.items():
        logging.getLogger(name).setLevel(level)
    # All code of Lightning that reports on rank 0 shares this logger.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_comes_from_callback)
    for handler in logging.getLogger("lightning.pytorch").handlers:
        if type(handler) is logging.StreamHandler:
            handler.stream = sys.stderr  # Lightning's handler has the one of the time when it was imported


def _comes_from_callback(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING or "callbacks" in Path(record.pathname).parts


def has_bfloat16(accelerator: str) -> bool:
    """Whether the device multiplies in bfloat16 faster than in float32."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        return cpu_multiplies_bfloat16()
    return False
