"""The command line of `fit` and `check`: its sections, and what is checked before anything is done."""

import logging
import os
import re
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn, TypeVar

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import Precision

from lit_transformer.cli.frame import in_one_line
from lit_transformer.cli.recipes import recipe_path
from lit_transformer.cli.sections import TRAINER_DEFAULTS
from lit_transformer.cli.suggestions import did_you_mean, suggest_option
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.model.config import longest_sequence
from lit_transformer.runs.attention_curves import AttentionCurves
from lit_transformer.runs.changed_settings import ChangedSettings
from lit_transformer.runs.curves import Curves
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL
from lit_transformer.runs.divergence import Divergence
from lit_transformer.runs.fit_to_memory import FitToMemory
from lit_transformer.runs.launching import devices_of_torchrun, flat
from lit_transformer.runs.limits import Limits, TimeLimit
from lit_transformer.runs.parts import callback_of
from lit_transformer.runs.private_names import cpu_multiplies_bfloat16, draw_settings, launches_commands
from lit_transformer.runs.provenance import RunRecord
from lit_transformer.runs.resuming import Resuming
from lit_transformer.runs.run_folder import run_folder
from lit_transformer.runs.saving import Checkpoints
from lit_transformer.runs.stopping import Interruption
from lit_transformer.training.translation import LitTransformer

MOST_DEVICES = 1_000_000
"""More than any cluster has. The time and memory of `check` grow with the number."""


_NUMBER = r"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?"


class Parser(LightningArgumentParser):
    """A parser whose errors are user errors."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        expected = r"Expected a <class 'int'>"
        number = re.search(rf'Parser key "([\w.]+)":.*{expected}.*value: ({_NUMBER})$', message, re.DOTALL)
        if number:
            raise UserError(not_whole(number[1], float(number[2])))
        options = self._option_string_actions
        # A misspelt name in a YAML file appears only in the message, in quotes, as values do.
        named = (
            did_you_mean(name, options, cutoff=0.75)
            for name in re.findall(r"'([\w.]+)'", message)
            if f"--{name}" not in options
        )
        suggestion = suggest_option(self.args, options) or next(filter(None, named), "")
        if "Expected a <class 'str'>" in message:  # such as the language code `no`
            suggestion += "; YAML reads no, on, 1e5 and 1:30 as text only in quotation marks: quote the value"
        raise UserError(f"{message}{suggestion} (all settings: --print_config)")


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
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(settings)
                continue
            # The logger's own method draws a curve of a made-up value. This names the curves to compare runs by.
            logger.hparams.update(settings)
            draw_settings(logger.experiment, settings, {"val/bleu": 0.0, "val/loss": 0.0})


class FitCLI(LightningCLI):
    """Sections `model`, `data`, `trainer`, `checkpoints`, `attention`. A value is set once and linked to the others."""

    model: LitTransformer
    datamodule: TranslationData
    trainer: L.Trainer

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_lightning_class_args(AttentionCurves, "attention")
        parser.add_argument("--ckpt_path", type=str | None, default=None)
        parser.link_arguments("model.vocab_size", "data.vocab_size")
        parser.link_arguments("model.source_vocab_size", "data.source_vocab_size")
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
        check_settings(self.config)

    def instantiate_classes(self) -> None:
        # The parser accepts `null` where there must be a number.
        with in_one_line("a setting has no value or a value of another type", TypeError):
            super().instantiate_classes()

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
        with in_one_line("trainer"):
            if given.max_time is not None:
                callbacks = self.config_init.trainer.callbacks or []
                callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
                settings["callbacks"] = [*callbacks, TimeLimit(self.config_init.trainer.max_time)]
            trainer = super().instantiate_trainer(**settings)
        callback_of(trainer, ChangedSettings).record(flat(self.config.as_dict()))
        if not launches_commands(trainer):
            strategy = getattr(given.strategy, "class_path", given.strategy)
            raise UserError(
                f"trainer.strategy is {strategy}: it copies the first process, which is not supported. Give ddp, or "
                "one device in a notebook"
            )
        if (chosen := type(trainer.strategy.checkpoint_io)) is not TorchCheckpointIO:
            raise UserError(f"trainer.plugins names {chosen.__name__}, but fit writes checkpoints itself: leave it out")
        cores = os.cpu_count() or 1
        if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cores:
            raise UserError(
                f"trainer.devices is {trainer.num_devices}, and this machine has no GPU and {cores} cores: "
                f"give at most {cores}"
            )
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


CLI = TypeVar("CLI", bound=FitCLI)


def parse(args: Sequence[str], cli: type[CLI]) -> CLI:
    """Make the model, the data and the trainer from arguments and their YAML files."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    # The launcher that ends a run because one of its processes has died reports it there.
    logging.getLogger("lightning.fabric.strategies.launchers").setLevel(logging.INFO)
    # Lightning 2.6 calls what torch 2.13 has renamed. Users can do nothing about it.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
    # The warning is about two lists of arguments. In sys.argv there may be those of another program, such as Jupyter.
    warnings.filterwarnings("ignore", "LightningCLI's args parameter is intended", UserWarning)
    callbacks = [
        RunRecord(),
        Resuming(),
        ChangedSettings(),
        FitToMemory(),
        Divergence(),
        Curves(),
        Limits(),
        Interruption(),
    ]
    return cli(
        LitTransformer,
        TranslationData,
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


def spelled_out(args: Sequence[str]) -> list[str]:
    """The arguments with `--trainer.devices` for `--devices`, and with the file of each recipe for its name."""
    written_out = []
    for previous, argument in pairwise(["", *args]):
        if previous in ("-c", "--config"):
            written_out.append(recipe_path(argument))
        elif argument.startswith("--config="):
            written_out.append(f"--config={recipe_path(argument.removeprefix('--config='))}")
        elif argument == "--devices" or argument.startswith("--devices="):
            written_out.append(f"--trainer.{argument.removeprefix('--')}")
        else:
            written_out.append(argument)
    return written_out


def check_settings(settings: Namespace) -> None:
    """Raise UserError for values that Lightning rejects late or not at all."""
    for name in ("model.transformer.d_model", "data.corpus", "trainer.max_steps", "checkpoints.keep"):
        if name not in settings:
            raise UserError(f"{name} is not set: {name.rpartition('.')[0]} must be a section (--print_config)")
    if not 0 <= int(settings.seed_everything) < 2**32:
        raise UserError(f"--seed_everything is {settings.seed_everything}: it must be from 0 to 4294967295")
    check_intervals(settings.trainer)
    for name in ("min_epochs", "max_epochs"):
        if settings.trainer[name] not in (None, -1):
            raise UserError(
                f"trainer.{name} is {settings.trainer[name]}: training reads the data without end and has no epochs; "
                f"give trainer.{name.replace('epochs', 'steps')}"
            )
    if (settings.trainer.gradient_clip_val or 0) < 0:
        raise UserError(f"trainer.gradient_clip_val is {settings.trainer.gradient_clip_val}: it must be at least 0")
    root = settings.trainer.default_root_dir
    for place in (root, settings.data.cache_dir, settings.data.tokenizer, settings.ckpt_path):
        expanded(place or "")
    try:
        Path(root).expanduser().mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=Path(root).expanduser()).close()
    except (OSError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"trainer.default_root_dir {root} cannot be written: {reason}; choose another") from error


def check_intervals(trainer: Namespace) -> None:
    """Raise UserError unless intervals are numbers of steps and training uses all data."""
    if isinstance(trainer.val_check_interval, float) and trainer.val_check_interval > 1:
        raise UserError(not_whole("trainer.val_check_interval", trainer.val_check_interval))
    if not isinstance(trainer.val_check_interval, int | float):
        raise UserError(f"trainer.val_check_interval is {trainer.val_check_interval}: give a number of optimizer steps")
    for name in ("limit_train_batches", "overfit_batches"):
        if trainer[name]:
            raise UserError(f"trainer.{name} is not supported: training reads every sentence; give a smaller corpus")
    for name in ("max_steps", "val_check_interval", "check_val_every_n_epoch", "log_every_n_steps"):
        endless = name == "max_steps" and trainer[name] == -1
        if isinstance(trainer[name], int) and trainer[name] < 1 and not endless:
            raise UserError(f"trainer.{name} is {trainer[name]}: it must be at least 1")


def not_whole(name: str, value: float) -> str:
    """Describe a setting such as 1e5 or 2.0 in place of a whole number."""
    example = f", as in {value:.0f}" if value.is_integer() else ""
    return f"{name} is {value}: it must be a whole number, written without a point and without an exponent{example}"


def has_bfloat16(accelerator: str) -> bool:
    """Whether the device multiplies in bfloat16 faster than in float32."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        return cpu_multiplies_bfloat16()
    return False
