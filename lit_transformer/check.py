"""`python -m lit_transformer.check`: predict the size, time and memory of a run of `fit` with the same options."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_transformer.cli.frame import in_one_line, user_errors_to_exit
from lit_transformer.cli.sections import print_requested_help, spell_settings
from lit_transformer.machine import describe, prepare_process

if TYPE_CHECKING:
    from lit_transformer.cli.training import CheckCLI

OWN_OPTIONS = {
    "--tokens_per_second RATE": "Target tokens per second of one device. By default, this machine's speed is measured."
}


def main(args: Sequence[str] | None = None) -> None:
    """Parse, predict, print."""
    with user_errors_to_exit(spell=spell_settings):
        arguments = sys.argv[1:] if args is None else args
        if print_requested_help("check", arguments, OWN_OPTIONS):
            return
        prepare_process()
        from lit_transformer.cli.process_state import process_state_kept
        from lit_transformer.cli.training import CheckCLI, parse

        with process_state_kept(), in_one_line("the settings cannot be used", OverflowError):
            check(parse(arguments, CheckCLI))


def check(cli: "CheckCLI") -> None:
    """Prepare the data, and predict the run step by step."""
    from lit_transformer.cli.reports import print_batches, print_costs, print_row
    from lit_transformer.data.accumulation import planned_steps
    from lit_transformer.model.embeddings import Embedding
    from lit_transformer.runs.advice import find_warnings
    from lit_transformer.runs.compiling import COMPILING
    from lit_transformer.runs.forecast import forecast_batches, forecast_costs, planned_accumulation
    from lit_transformer.runs.kernels import multiplies_in_float32, prepare_cpu
    from lit_transformer.runs.resuming import find_start

    settings, trainer, model, data = cli.config, cli.trainer, cli.model, cli.datamodule
    find_start(settings.ckpt_path, Path(trainer.default_root_dir, settings.name or ""))
    prepare_cpu(trainer)
    data.prepare_data()
    data.setup("fit")
    if model.compiles:
        print(COMPILING, flush=True)
    accumulation = planned_accumulation(trainer, model, data, devices=cli.devices)
    batches = forecast_batches(data.plan, accumulation=accumulation, world_size=cli.devices)
    parameters = sum(weight.numel() for weight in model.parameters())
    embeddings = sum(part.weight.numel() for part in model.modules() if isinstance(part, Embedding))
    print_row("model", f"{parameters:,} parameters, {embeddings:,} of them embeddings")
    if cli.taken:
        cli.taken.print_report(settings)
    print_row("data", *data.counts)
    steps = planned_steps(trainer, data.epochs)
    print_batches(batches, data, devices=cli.devices, steps=steps)
    rate = settings.tokens_per_second
    print_row("machine", *describe(multiplies_in_float32=multiplies_in_float32(trainer)))
    costs = forecast_costs(trainer, model, data, batches, devices=cli.devices, tokens_per_second=rate)
    print_costs(costs, predicted=data.predicted, steps=steps)
    for warning in find_warnings(trainer, model, data, batches, devices=cli.devices):
        print_row("warning", warning)


if __name__ == "__main__":
    main()
