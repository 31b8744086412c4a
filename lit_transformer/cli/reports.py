"""What `fit` and `check` print."""

import shlex
import signal
from pathlib import Path

import lightning as L
from jsonargparse import Namespace

from lit_transformer.cli.sections import spell_settings
from lit_transformer.cli.tasks import Task
from lit_transformer.data.loaders import LoadedData
from lit_transformer.notes import counted, print_note
from lit_transformer.runs.forecast import PAPER_FLOPS, BatchForecast, CostForecast, histogram
from lit_transformer.runs.limits import Limits, reached_limit
from lit_transformer.runs.loggers import curves_of
from lit_transformer.runs.parts import callback_of, callbacks_of
from lit_transformer.runs.run_folder import former_run
from lit_transformer.runs.saving import BestCheckpoint, Checkpoints
from lit_transformer.training.metrics import PREFIX
from lit_transformer.training.module import LitModel

SHOW_CURVES = {
    # TensorBoard's own limits are a random 10 pictures of each kind, and a random 1,000 points of each curve.
    "tensorboard": "tensorboard --logdir {} --samples_per_plugin images=0,scalars=0",
    "wandb": "wandb sync {}",
    "mlflow": "mlflow ui --backend-store-uri {}",
}
"""Commands that show curves, by the program that has them."""


def print_start(trainer: L.Trainer, model: LitModel, data: LoadedData, resumed: Path | None) -> None:
    """Print in one line what is about to be trained."""
    parameters = sum(weight.numel() for weight in model.parameters())
    print(
        f"{parameters / 1e6:.1f} million parameters, {data.title}, "
        f"{trainer.precision} on {trainer.world_size} x {trainer.strategy.root_device.type}"
        + (f"; resuming from {resumed}" if resumed else ""),
        flush=True,
    )


def print_run(run: Path, settings: Namespace) -> None:
    """Print the folder of the run, and a note if it is a new run beside one that could be continued."""
    if settings.trainer.fast_dev_run:  # leaves nothing
        return
    print(f"Run folder: {run}", flush=True)
    former = former_run(run)
    if former and settings.name is None and settings.ckpt_path is None:
        name = former.relative_to(run.parent)
        print_note(
            f"{former} is an earlier run, and this start begins a new one, {run.name}. To continue the earlier run, "
            f"add --name {shlex.quote(str(name))} --ckpt_path auto"
        )


def print_result(
    trainer: L.Trainer, model: LitModel, data: LoadedData, task: Task, run: Path, *, seconds: float
) -> None:
    """Print how good the model is, where it lies, and what to type next."""
    print(f"\nTrained to step {trainer.global_step:,} in {seconds / 60:.1f} minutes.")
    if trainer.global_step != callback_of(trainer, Limits).first_step:
        print(f"Ended: {spell_settings(reached_limit(trainer))}.")
    best = [saved for saved in callbacks_of(trainer, BestCheckpoint) if saved.best_model_score is not None]
    for saved in best:
        print(describe_best(saved, model))
    if not (best or trainer.barebones or f"{PREFIX}loss" in trainer.callback_metrics):
        setting = "val_check_interval" if trainer.enable_validation else "limit_val_batches"
        print(f"It was never validated (trainer.{setting}), so its quality is unknown.")
    checkpoint = result_checkpoint(trainer)
    print(f"Checkpoint: {checkpoint or 'none was saved'}")
    print_next(trainer, model, data, task, run if checkpoint else None)


def print_next(trainer: L.Trainer, model: LitModel, data: LoadedData, task: Task, run: Path | None) -> None:
    """Print where the curves are, and commands that use the model, if it was saved."""
    curves = [found for logger in trainer.loggers if (found := curves_of(logger)) is not None]
    for found in curves:
        print(f"Curves:     {found.place}")
    if run is None:
        return
    # A corpus without pairs that are left to test on has no test set.
    known = {"run": shlex.quote(str(run)), "test_set": None}
    if data.test_set is not None:
        corpus, split = data.test_set
        options = {"split": split, "tokenize": model.tokenize}
        given = [shlex.quote(corpus), *(f"--{name} {value}" for name, value in options.items() if value)]
        known["test_set"] = " ".join(given)
    commands = [
        f"python -m lit_transformer.{command.format(**known)}"
        for command in task.commands
        if not any(f"{{{name}}}" in command and value is None for name, value in known.items())
    ]
    commands += [SHOW_CURVES[found.program].format(shlex.quote(found.place)) for found in curves if found.program]
    if commands:
        print("\nNext:", *(f"  {command}" for command in commands), sep="\n")


def describe_best(saved: BestCheckpoint, model: LitModel) -> str:
    """The step and the score of the best checkpoint, which exists."""
    assert saved.best_step is not None
    assert saved.best_model_score is not None
    score = float(saved.best_model_score)
    if saved.monitor not in ("val/selection", "val/bleu"):
        return f"Best at step {saved.best_step:,}: {saved.monitor} {score:.4g}."
    return f"Best at step {saved.best_step:,}: {model.describe_selection(score)}."


def result_checkpoint(trainer: L.Trainer) -> Path | None:
    """The best checkpoint of a run, or its last one if there is no best, or None if it has none."""
    paths = [Path(best.best_model_path) for best in callbacks_of(trainer, BestCheckpoint) if best.best_model_path]
    paths += [each.last_saved for each in callbacks_of(trainer, Checkpoints) if each.last_saved]
    return paths[0] if paths else None


def print_stop(received: signal.Signals, when: str, checkpoint: Path | None, requeued: bool) -> None:
    """Print that a signal has stopped the run, and how to continue it."""
    print(f"\nStopped by {received.name} {when}.")
    if checkpoint is not None:
        print(f"Checkpoint: {checkpoint}")
    if requeued:
        print("SLURM has put the job back into its queue.", flush=True)
    else:
        print("To continue: the same command with --ckpt_path auto", flush=True)


def print_batches(batches: BatchForecast, data: LoadedData, *, devices: int, steps: int | None) -> None:
    """Print what a step, an epoch and a device take, and how long the rows are.

    Args:
        batches: The forecast.
        data: Have the lengths and the epochs.
        devices: Their number over all nodes.
        steps: Optimizer steps of the run. None is no limit.
    """
    plan, epochs = data.plan, data.epochs
    if data.row == data.unit:
        tokens, sides = "", []
    elif plan.is_one_sided:
        tokens = f", {batches.source_tokens:,.0f} {data.unit}s"
        sides = [(f"{data.row} length", plan.source_lengths)]
    else:
        tokens = f", {batches.source_tokens:,.0f} source and {batches.target_tokens:,.0f} target {data.unit}s"
        sides = [("source length", plan.source_lengths), ("target length", plan.target_lengths)]
    print_row("a step", f"{batches.pairs:,.0f} {data.row}s{tokens}")
    limit = f" (the data have {epochs.plan_steps:,})" if epochs.steps < epochs.plan_steps else ""
    run = f"{steps:,}, {steps / epochs.steps:,.1f} epochs" if steps is not None else "no limit of steps"
    print_row("an epoch", f"{counted(epochs.steps, 'step')}{limit}; the run has {run}")
    micro_batches = counted(batches.accumulation, "micro-batch", "micro-batches")
    imbalance = f"; the fullest device has {batches.imbalance:.1%} more than the mean" if devices > 1 else ""
    print_row("devices", f"{devices}, with {micro_batches} per step; {batches.padding_share:.1%} padding{imbalance}")
    for name, lengths in sides:
        print_row(name, *(f"{span:>10} {part:6.1%} {'#' * round(60 * part)}" for span, part in histogram(lengths)))


def print_costs(costs: CostForecast, *, predicted: str, steps: int | None) -> None:
    """Print computation, time, memory and disk space. Without a limit of steps, the first two are those of an epoch.

    Args:
        costs: The forecast.
        predicted: What the speed counts.
        steps: Optimizer steps of the run. None is no limit.
    """
    per_epoch = " per epoch" if steps is None else ""
    paper = ", ".join(f"{name} {flops:.1e}" for name, flops in PAPER_FLOPS.items())
    print_row("compute", f"{costs.flops:.1e} FLOPs{per_epoch} (the paper's own estimates: {paper})")
    print_row("speed", f"{costs.tokens_per_second:,.0f} {predicted} per second and device, {costs.measured}")
    print_row("time", f"{costs.hours:,.1f} hours{per_epoch}, without communication and validation")
    whole = format_bytes(costs.weight_bytes + costs.activation_bytes + costs.program_bytes)
    weights, activations = format_bytes(costs.weight_bytes), format_bytes(costs.activation_bytes)
    program = f", {format_bytes(costs.program_bytes)} for the program and its kernels" if costs.program_bytes else ""
    print_row(
        "memory",
        f"about {whole} per device: {weights} for weights, gradients and the optimizer, {activations} for the "
        f"largest micro-batch{program}",
    )
    print_row("disk", f"{format_bytes(costs.checkpoint_bytes)} of checkpoints, {format_bytes(costs.free_bytes)} free")
    if costs.checkpoint_bytes > costs.free_bytes:
        print_row("warning", "the checkpoints do not fit on the disk: free space or lower checkpoints.save_top_k")


def print_row(name: str, *lines: str) -> None:
    """Print a paragraph with its name in the margin."""
    for line in lines:
        print(f"{name:14}{line}", flush=True)
        name = ""


def format_bytes(number: float) -> str:
    """A number of bytes in the unit that reads best."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"
