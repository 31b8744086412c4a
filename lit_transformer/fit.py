"""`python -m lit_transformer.fit`: train a model, by default the paper's base model on WMT14 English-German."""

import faulthandler
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lit_transformer.checkpoints.names import CHECKPOINTS_FOLDER
from lit_transformer.cli.frame import in_one_line, user_errors_to_exit
from lit_transformer.cli.sections import print_requested_help, spell_settings
from lit_transformer.errors import UserError
from lit_transformer.machine import prepare_process
from lit_transformer.notes import print_note
from lit_transformer.runs.dispensable import CURVES_MAY_FAIL, Dispensable

if TYPE_CHECKING:
    import lightning as L

    from lit_transformer.cli.training import FitCLI


class FitResult(NamedTuple):
    """What a script may need after a run."""

    run: Path
    """The folder of the run."""
    best_checkpoint: Path | None
    """The checkpoint with the best validation score, if there is one."""
    scores: dict[str, float]
    """The last value of each curve, such as `val/bleu`."""


def main(args: Sequence[str] | None = None) -> FitResult | None:
    """Parse, train, print.

    Returns:
        The result, or None if the arguments ask for help.
    """
    with user_errors_to_exit(cannot_print=Dispensable("to stdout").lose, spell=spell_settings), crashes_shown():
        arguments = sys.argv[1:] if args is None else args
        if print_requested_help("fit", arguments):
            return None
        prepare_process()
        from lit_transformer.cli.process_state import process_state_kept
        from lit_transformer.cli.reports import print_stop
        from lit_transformer.cli.training import FitCLI, parse
        from lit_transformer.runs.ending import ended_together

        with process_state_kept():
            cli = parse(arguments, FitCLI)
            with ended_together(cli.trainer, print_stop):
                return fit(cli)


@contextmanager
def crashes_shown() -> Iterator[None]:
    """Show where a crash without an exception happens (SIGBUS if a mapped file was cut off, SIGABRT)."""
    if sys.__stderr__ is None or faulthandler.is_enabled():
        yield
        return
    faulthandler.enable(sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.disable()


def fit(cli: "FitCLI") -> FitResult:
    """Start all processes alike, train, report."""
    from lit_transformer.cli.loggers import loggers_attached
    from lit_transformer.cli.reports import print_result, print_run, print_start
    from lit_transformer.decoding.devices import enough_memory
    from lit_transformer.runs.kernels import few_kernels_cached, prepare_cpu
    from lit_transformer.runs.launching import check_launcher, check_settings_of_ranks, start_processes, waiting_noted
    from lit_transformer.runs.parts import callback_of
    from lit_transformer.runs.resuming import Resuming, continued_run, saved_on_exception
    from lit_transformer.runs.run_folder import claimed_folder

    begin = time.perf_counter()
    trainer, model, data = cli.trainer, cli.model, cli.datamodule
    check_launcher(trainer)
    # Before the ranks meet. Tokenizing forks processes, which is safe only while no library has started threads. And
    # ranks that wait for the one that prepares have no time limit here.
    data.prepare_data()
    # ValueError: a cluster's environment contradicts the settings.
    with waiting_noted(trainer), in_one_line("trainer", ValueError):
        start_processes(trainer)
    check_settings_of_ranks(trainer, cli.config)
    prepare_cpu(trainer)
    ckpt_path = cli.config.ckpt_path or saved_on_exception(trainer)
    resumed = callback_of(trainer, Resuming).read(trainer, ckpt_path, cli.config.name)
    continued = continued_run(resumed, ckpt_path)
    with claimed_folder(trainer, cli.config, continued) as run:
        if trainer.is_global_zero:
            print_start(trainer, model, data, resumed)
            if cli.taken and resumed is None:
                cli.taken.print_report(cli.config)
            print_run(run, cli.config)
        remedy = f"lower data.{data.device_setting}; the optimizer steps stay the same"
        device = trainer.strategy.root_device
        with (
            enough_memory(remedy),
            in_one_line("the settings cannot be used", OverflowError),
            CURVES_MAY_FAIL.in_threads(),
            few_kernels_cached(device),
            loggers_attached(trainer, cli.config, run, continued),
        ):
            trainer.fit(model, data, ckpt_path=resumed, weights_only=True)
    if trainer.is_global_zero:
        check_steps(trainer, run)
        print_result(trainer, model, data, cli.task, run, seconds=time.perf_counter() - begin)
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    scores = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return FitResult(run, Path(best) if best else None, scores)


def check_steps(trainer: "L.Trainer", run: Path) -> None:
    """Print a note if this start has taken no step.

    Raises:
        UserError: The run has no checkpoint for that reason.
    """
    from lit_transformer.runs.limits import Limits, reached_limit
    from lit_transformer.runs.parts import callback_of

    if callback_of(trainer, Limits).first_step == trainer.global_step:
        message = f"no step was taken after step {trainer.global_step:,}: {reached_limit(trainer)}"
        if not (run / CHECKPOINTS_FOLDER).exists():
            raise UserError(message)
        print_note(spell_settings(message))


if __name__ == "__main__":
    main()
