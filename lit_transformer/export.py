"""`python -m lit_transformer.export`: write a trained model in the format of another program."""

import argparse
from collections.abc import Sequence

from lit_transformer.cli.commands import run_command
from lit_transformer.decoding.settings import FLOAT32


def main(args: Sequence[str] | None = None) -> None:
    """Parse, convert, write."""
    run_command("export", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    checkpoint = "a checkpoint, a run folder, a folder above runs, a model folder, or hf:NAME on the Hugging Face Hub"
    parser.add_argument("--checkpoint", required=True, help=checkpoint)
    parser.add_argument("--format", required=True, choices=["ctranslate2"], help="the other program")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder to write, new or empty")
    compute_type = "type of the weights, such as int8, float16 or bfloat16; default: %(default)s"
    parser.add_argument("--compute_type", default=FLOAT32, help=compute_type)


def run(options: argparse.Namespace) -> None:
    """Convert a model and write its folder."""
    from lit_transformer.checkpoints.ctranslate2_folder import write_ctranslate2_folder
    from lit_transformer.files import expanded, new_folder
    from lit_transformer.pretrained.places import load_translation_model

    output = expanded(options.output)
    with new_folder(output) as unfinished:
        model = load_translation_model(options.checkpoint)
        write_ctranslate2_folder(unfinished, model.transformer, model.vocabularies, compute_type=options.compute_type)
    print(f"written: {output}")


if __name__ == "__main__":
    main()
