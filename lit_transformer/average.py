"""`python -m lit_transformer.average`: average the weights of a run's last checkpoints (section 6.1)."""

import argparse
from collections.abc import Sequence

from lit_transformer.cli.commands import run_command
from lit_transformer.errors import UserError


def main(args: Sequence[str] | None = None) -> None:
    """Parse, average, write."""
    run_command("average", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--run", required=True, help="a run folder, or a folder above runs")
    last = "number of checkpoints; the paper averages 5 for base and 20 for big; default: %(default)s"
    parser.add_argument("--last", type=int, default=5, help=last)
    parser.add_argument("--output", help="folder to write; default: average-LAST beside the checkpoints")


def run(options: argparse.Namespace) -> None:
    """Average the weights and write a model folder."""
    from lit_transformer.checkpoints.average import average_checkpoints
    from lit_transformer.checkpoints.folder import MODEL_FOLDER_FILES, write_model_folder
    from lit_transformer.checkpoints.names import regular_checkpoints
    from lit_transformer.checkpoints.places import newest_checkpoints_folder
    from lit_transformer.files import expanded, new_folder
    from lit_transformer.notes import counted

    output = options.output and expanded(options.output)
    folder = newest_checkpoints_folder(options.run)
    steps = regular_checkpoints(folder)
    if not 1 <= options.last <= len(steps):
        raise UserError(
            f"--last {options.last}: {folder} has {counted(len(steps), 'regular checkpoint')}; give a number from 1 "
            "to that, or train with a larger --checkpoints.save_top_k"
        )
    chosen = steps[-options.last :]
    # Only the default folder is replaced. A run that was resumed is averaged there again.
    replaceable = () if output else MODEL_FOLDER_FILES
    output = output or folder / f"average-{options.last}"
    with new_folder(output, replaceable=replaceable) as unfinished:
        mean = average_checkpoints(chosen)
        write_model_folder(unfinished, mean.transformer, mean.vocabularies, **mean.about)
    names = ", ".join(path.name for path in chosen)
    print(f"averaged {names}\nwritten: {output}")


if __name__ == "__main__":
    main()
