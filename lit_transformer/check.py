"""`python -m lit_transformer.check`: what a run of `fit` with the same options will be, without training."""

import shutil
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device

from lit_transformer.cli.frame import in_one_line, user_errors_to_exit
from lit_transformer.cli.training import FitCLI, parse
from lit_transformer.errors import UserError
from lit_transformer.runs import forecast
from lit_transformer.runs.fit_to_memory import Trial
from lit_transformer.runs.resuming import find_start

MOST_DEVICES = 1_000_000
"""More than any cluster has; the time and memory of `check` grow with the number."""
MEASURED_TOKENS = 2048
"""Padded tokens on a side that are enough to measure with, and little enough for a laptop."""


class CheckCLI(FitCLI):
    """The options of `fit`; the devices are counted and not used."""

    def add_arguments_to_parser(self, parser: Any) -> None:
        super().add_arguments_to_parser(parser)
        parser.add_argument(
            "--tokens_per_second",
            type=float | None,
            default=None,
            help="Target tokens per second of one device, for the prediction; measured here when left out.",
        )

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
            raise UserError(f"tokens_per_second is {rate}: it must be above 0")
        return super().instantiate_trainer(**settings, devices=1, num_nodes=1, logger=False)


def main(args: list[str] | None = None) -> None:
    """Parse, prepare the data, look, print."""
    with user_errors_to_exit(), in_one_line("the settings cannot be used", OverflowError):
        check(parse(args, description=__doc__, cli=CheckCLI))


def check(cli: CheckCLI) -> None:
    """Print what the run will be."""
    settings, data = cli.config, cli.datamodule
    find_start(settings.ckpt_path, Path(cli.trainer.default_root_dir))
    data.prepare_data()
    data.setup("fit")
    accumulation = micro_batches(cli)
    batches = forecast.forecast_batches(data.plan, accumulation=accumulation, world_size=cli.devices)
    parameters = sum(weight.numel() for weight in cli.model.parameters())
    embeddings = cli.model.transformer.embedding.weight.numel()
    say("model", f"{parameters:,} parameters, {embeddings:,} of them embeddings")
    say("data", *str(data.tokens.report).splitlines(), *map(str, data.coverage))
    say_batches(cli, batches)
    say_costs(cli, batches, parameters)
    for warning in [*forecast.warnings(settings, data.tokens.report, batches, devices=cli.devices), *data.warnings]:
        say("warning", warning)


def micro_batches(cli: CheckCLI) -> int:
    """As `fit` will set them, found by trial on this machine's device for `auto`."""
    limit, plan, strategy = cli.config.data.max_tokens_per_device, cli.datamodule.plan, cli.trainer.strategy
    if limit != "auto":
        return plan.accumulation(max_tokens_per_device=limit, world_size=cli.devices)
    trial = Trial(cli.model, cli.datamodule, strategy.root_device, cli.trainer.precision_plugin, cli.devices)
    return trial.fewest_micro_batches(agree=lambda fits: fits)


def say_batches(cli: CheckCLI, batches: forecast.BatchForecast) -> None:
    """Steps, epochs, devices, lengths."""
    source_tokens, target_tokens = batches.source_tokens, batches.target_tokens
    say("a step", f"{batches.pairs:,.0f} pairs, {source_tokens:,.0f} source and {target_tokens:,.0f} target tokens")
    epochs = cli.config.trainer.max_steps / batches.steps_per_epoch
    say(
        "an epoch", f"{batches.steps_per_epoch:,} steps" + (f"; the run has {epochs:,.1f} epochs" if epochs > 0 else "")
    )
    say(
        "devices",
        f"{cli.devices}, {batches.accumulation} micro-batches a step; {batches.padding_share:.1%} padding, the fullest "
        f"device has {batches.imbalance:.1%} more than the mean",
    )
    plan = cli.datamodule.plan
    for name, lengths in (("source length", plan.source_lengths), ("target length", plan.target_lengths)):
        bars = (f"{span:>10} {part:6.1%} {'#' * round(60 * part)}" for span, part in forecast.histogram(lengths))
        say(name, *bars)


def say_costs(cli: CheckCLI, batches: forecast.BatchForecast, parameters: int) -> None:
    """Computation, time, memory, disk."""
    settings, module = cli.config, cli.model
    steps = max(settings.trainer.max_steps, 0)
    flops = forecast.training_flops(
        module.transformer.config,
        vocab_size=settings.model.vocab_size,
        source_tokens=steps * batches.source_tokens,
        target_tokens=steps * batches.target_tokens,
        lengths=(batches.source_tokens / batches.pairs, batches.target_tokens / batches.pairs),
    )
    paper = ", ".join(f"{name} {value:.1e}" for name, value in forecast.PAPER_FLOPS.items())
    say("compute", f"{flops:.1e} FLOPs (what the paper estimates of itself: {paper})")

    device = cli.trainer.strategy.root_device
    module.to(device).train()
    plan = cli.datamodule.plan
    rows = max(
        plan.largest_micro_batches(cli.devices * batches.accumulation),
        key=lambda rows: forecast.padded_positions(plan, rows),
    )
    longest = max(plan.source_lengths[rows].max(), plan.target_lengths[rows].max())
    measured = rows[-max(1, MEASURED_TOKENS // longest) :]
    batch = move_data_to_device(cli.datamodule.batch(measured), device)
    with cli.trainer.precision_plugin.forward_context():
        activations = forecast.activation_bytes(module, batch) * len(rows) / len(measured)
        rate, origin = cli.config.tokens_per_second, "as given"
        if rate is None:
            rate = forecast.target_tokens_per_second(module, batch)
            origin = f"measured on {device.type}, {batch.num_target_tokens:,} at a time, without the optimizer"
    say("speed", f"{rate:,.0f} target tokens/s a device, {origin}")
    hours = steps * batches.target_tokens / (rate * cli.devices) / 3600
    say("time", f"{hours:,.1f} hours, were connecting the devices and validation free")
    weights = parameters * forecast.BYTES_PER_PARAMETER
    say(
        "memory",
        f"about {in_bytes(weights + activations)} a device: {in_bytes(weights)} for weights, gradients and Adam, "
        f"{in_bytes(activations)} for the largest micro-batch",
    )
    needed = parameters * forecast.SAVED_BYTES_PER_PARAMETER * (settings.checkpoints.keep + 2)
    free = shutil.disk_usage(Path(settings.trainer.default_root_dir)).free
    say("disk", f"{in_bytes(needed)} of checkpoints, {in_bytes(free)} free")
    if needed > free:
        say("warning", "the checkpoints will not fit on the disk: make room or lower checkpoints.keep")


def say(name: str, *lines: str) -> None:
    """A paragraph with its name in the margin."""
    for line in lines:
        print(f"{name:14}{line}", flush=True)
        name = ""


def in_bytes(number: float) -> str:
    """In the unit that reads best."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"


if __name__ == "__main__":
    main()
