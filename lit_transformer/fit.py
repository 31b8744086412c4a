"""`python -m lit_transformer.fit`: train a model; the paper's base model on WMT14 EN-DE when nothing else is said."""

import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import distributed
from torch.utils.tensorboard.summary import hparams

from lit_transformer import checkpoint as checkpoints
from lit_transformer.data.datamodule import TranslationData
from lit_transformer.errors import UserError, user_errors_to_exit
from lit_transformer.training.callbacks import Checkpoints, Progress, WholeCheckpointIO, run_folder
from lit_transformer.training.interruption import Interrupted, Interruption
from lit_transformer.training.module import LitTransformer
from lit_transformer.training.record import RunRecord

TRAINER_DEFAULTS: dict[str, Any] = {
    "default_root_dir": "runs",
    "max_steps": 100_000,  # section 5.2: base; recipes count everything in optimizer steps
    "max_epochs": -1,
    "val_check_interval": 2000,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 50,
    "use_distributed_sampler": False,  # the plan deals batches out to ranks itself
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


SEARCHED = ("last", "auto")
"""Values of --ckpt_path that look for a checkpoint and go on in its run's folder."""


class Parser(LightningArgumentParser):
    """A parser whose complaints are user errors."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise UserError(f"{message} (all settings: --print_config)")


class Settings(SaveConfigCallback):
    """Writes the settings into the run's folder: `config.yaml` to train with again, and hyper-parameters as logged."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        sections = {name: value for name, value in self.config.as_dict().items() if name != "config"}
        settings = flat(sections)
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(settings)
                continue
            # The logger's own method would draw a curve of a made-up value; this names the curves to compare runs by.
            logger.hparams.update(settings)
            writer = logger.experiment._get_file_writer()
            for summary in hparams(settings, {"val/bleu": 0.0, "val/loss": 0.0}):
                writer.add_summary(summary)


class FitCLI(LightningCLI):
    """Sections `model`, `data`, `trainer` and `checkpoints`; a value is set in one place and linked to the others."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(Checkpoints, "checkpoints")
        parser.add_argument(
            "--ckpt_path",
            type=str | None,
            default=None,
            help="Checkpoint to resume from; `last` is the newest readable one below trainer.default_root_dir, "
            "`auto` the same if there is one.",
        )
        parser.link_arguments("model.vocab_size", "data.vocab_size")
        parser.link_arguments("seed_everything", "model.seed", compute_fn=int)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        try:
            super().parse_arguments(parser, args)
        except (UnicodeDecodeError, UnicodeEncodeError) as error:
            raise UserError(f"a value or a file of --config is not UTF-8 ({error.reason}): convert it") from error
        check_settings(self.config)

    def instantiate_trainer(self, **settings: Any) -> L.Trainer:
        """The trainer with what depends on the machine and on the run that is resumed."""
        self.resumed = resume_point(self.config.ckpt_path, Path(self.config.trainer.default_root_dir))
        if self.config.trainer.precision is None:
            settings["precision"] = "bf16-mixed" if has_bfloat16(self.config.trainer.accelerator) else "32-true"
        if self.config.ckpt_path in SEARCHED and self.resumed and self.config.trainer.logger in (None, True):
            run, step = self.resumed.parent.parent, checkpoints.step_of(self.resumed)
            assert step is not None, "found by its name"
            # What the interrupted run drew after the checkpoint is drawn anew.
            settings["logger"] = TensorBoardLogger(
                run.parent.parent, name=run.parent.name, version=run.name, purge_step=step + 1
            )
        try:
            trainer = super().instantiate_trainer(**settings)
        except (MisconfigurationException, TypeError, ValueError) as error:
            raise UserError(f"trainer: {error} (all settings: --print_config)") from error
        cores = os.cpu_count() or 1
        if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > cores:
            raise UserError(
                f"trainer.devices is {trainer.num_devices}, and this machine has no GPU and {cores} cores: "
                f"give at most {cores}"
            )
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
        return trainer


def main(args: list[str] | None = None) -> None:
    """Parse, train, and say how it went."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
    # Lightning 2.6 has not followed a renaming in torch 2.13; users can do nothing about it.
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
    if args is None:
        # In place: Lightning starts the other ranks with the same sys.argv.
        sys.argv[1:] = with_short_devices(sys.argv[1:])
    else:
        args = with_short_devices(args)
    with user_errors_to_exit():
        cli = FitCLI(
            LitTransformer,
            TranslationData,
            parser_class=Parser,
            parser_kwargs={"description": __doc__, "allow_abbrev": False},
            trainer_defaults={**TRAINER_DEFAULTS, "callbacks": [RunRecord(), Progress(), Interruption()]},
            save_config_callback=Settings,
            save_config_kwargs={"overwrite": True},
            seed_everything_default=1,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            run=False,
            args=args,
        )
        try:
            fit(cli)
        except Interrupted as interrupted:
            stop(cli, interrupted)
        finally:
            leave_process_group()


def fit(cli: FitCLI) -> None:
    """Prepare the data, train, report."""
    begin = time.perf_counter()
    trainer, data = cli.trainer, cli.datamodule
    parameters = sum(weight.numel() for weight in cli.model.parameters())
    if trainer.is_global_zero:
        resumed = f"; resuming from {cli.resumed}" if cli.resumed else ""
        print(
            f"{parameters / 1e6:.1f} million parameters, {data.source} to {data.target}, corpus {data.corpus}, "
            f"{trainer.precision} on {trainer.world_size} x {trainer.strategy.root_device.type}{resumed}",
            flush=True,
        )
    trainer.fit(cli.model, data, ckpt_path=cli.resumed, weights_only=True)
    run = run_folder(trainer)
    if trainer.is_global_zero:
        report(cli, run, time.perf_counter() - begin)


def stop(cli: FitCLI, interrupted: Interrupted) -> NoReturn:
    """Say where to go on; exit with 128 and the signal's number, as shells count."""
    if not cli.trainer.is_global_zero:
        # Lightning kills the whole job at once when a process that it has started fails.
        sys.exit(0)
    print(f"\nStopped by {interrupted.received.name} after step {interrupted.step:,}: nothing is lost.")
    print(f"Checkpoint: {interrupted.checkpoint}")
    if interrupted.requeued:
        print("SLURM has put the job back into its queue.")
    else:
        print("To go on: the same command with --ckpt_path auto")
    sys.stdout.flush()
    sys.exit(128 + interrupted.received)


def leave_process_group() -> None:
    """Ends gloo's threads: one that outlives the interpreter aborts the process (pytorch #190489)."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def report(cli: FitCLI, run: Path, seconds: float) -> None:
    """In plain words: how good it is, where it lies, what to type next."""
    trainer, model = cli.trainer, cli.model
    saved = next(callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))  # type: ignore[attr-defined]
    print(f"\nTrained to step {trainer.global_step:,} in {seconds / 60:.1f} minutes.")
    if saved.best_step is None:
        print("It was never validated (trainer.val_check_interval), so nobody knows how good it is.")
    else:
        print(
            f"Best at step {saved.best_step:,}: validation BLEU {saved.best_bleu:.1f} of 100 "
            f"(sacreBLEU, beam {model.validation_beam_size}): {in_words(saved.best_bleu)}."
        )
    print(f"Checkpoint: {checkpoints.find(run)}\nCurves:     {run}\n\nNext:")
    quoted, corpus = shlex.quote(str(run)), shlex.quote(cli.datamodule.corpus)
    tokenize = "" if model.bleu_tokenize == "13a" else f" --tokenize {model.bleu_tokenize}"
    print(f"  python -m lit_transformer.test --checkpoint {quoted} --corpus {corpus} --split test{tokenize}")
    print(f"  python -m lit_transformer.translate --checkpoint {quoted}")
    print(f"  tensorboard --logdir {quoted}")


def in_words(bleu: float) -> str:
    """What a BLEU score means to somebody who has never seen one; corpora differ, so it is a rough guide."""
    steps = (
        (10, "it has not learnt to translate yet"),
        (20, "the gist comes through here and there"),
        (30, "the gist is clear, with many errors"),
        (40, "understandable to good translations"),
        (60, "good translations, often as a person would write them"),
        (90, "very close to the reference translations"),
    )
    return next((words for limit, words in steps if bleu < limit), "nearly every word is as in the reference")


def with_short_devices(args: list[str]) -> list[str]:
    """`--devices N` and `--devices=N` stand for `--trainer.devices N`."""
    return [
        f"--trainer.{arg.removeprefix('--')}" if arg == "--devices" or arg.startswith("--devices=") else arg
        for arg in args
    ]


def check_settings(settings: Namespace) -> None:
    """Raises where Lightning would stumble later or not at all."""
    if not 0 <= int(settings.seed_everything) < 2**32:
        raise UserError(f"--seed_everything is {settings.seed_everything}: it must be from 0 to 4294967295")
    trainer = settings.trainer
    for name in ("max_steps", "val_check_interval", "log_every_n_steps"):
        endless = name == "max_steps" and trainer[name] == -1
        if isinstance(trainer[name], int) and trainer[name] < 1 and not endless:
            raise UserError(f"trainer.{name} is {trainer[name]}: it must be at least 1")
    if (trainer.gradient_clip_val or 0) < 0:
        raise UserError(f"trainer.gradient_clip_val is {trainer.gradient_clip_val}: it must be at least 0")
    try:
        Path(trainer.default_root_dir).mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=trainer.default_root_dir).close()
    except OSError as error:
        raise UserError(
            f"trainer.default_root_dir {trainer.default_root_dir} cannot be written: {error.strerror}; choose another"
        ) from error


def resume_point(ckpt_path: str | None, root: Path) -> Path | None:
    """The checkpoint that is meant by `--ckpt_path`; damaged ones are named and passed over."""
    if ckpt_path is None:
        return None
    if ckpt_path in SEARCHED:
        return newest_readable(root, needed=ckpt_path == "last")
    path = checkpoints.find(ckpt_path)
    # Lightning would load it with less to say about what is wrong with it.
    if "loops" not in checkpoints.read(path):
        raise UserError(f"--ckpt_path {path} is an average, which has no training state: give a step-STEP.ckpt")
    return path


def newest_readable(root: Path, *, needed: bool) -> Path | None:
    """What `--ckpt_path last` (needed) and `auto` mean."""
    path, damaged = checkpoints.newest_readable(root)
    for file in damaged:
        note(f"passed over {file}: it is damaged")
    if path is None and needed:
        raise UserError(
            f"--ckpt_path last: there is no readable checkpoint below {root} (trainer.default_root_dir): "
            "leave --ckpt_path out or give --ckpt_path auto to start afresh"
        )
    return path


@rank_zero_only
def note(message: str) -> None:
    """Tell the user, once for all processes."""
    print(f"note: {message}", file=sys.stderr)


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested settings under dotted names, as plain values; what is not set is left out."""
    values: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            values[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return values


def has_bfloat16(accelerator: str) -> bool:
    """Whether the device multiplies in bfloat16 faster than in float32."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator in ("auto", "cpu") and not torch.backends.mps.is_available():
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


if __name__ == "__main__":
    main()
