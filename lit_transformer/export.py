"""`python -m lit_transformer.export`: write a trained model in the format of another program."""

import argparse
from collections.abc import Sequence

from lit_transformer.cli.commands import run_command
from lit_transformer.decoding.settings import FLOAT32
from lit_transformer.errors import UserError


def main(args: Sequence[str] | None = None) -> None:
    """Parse, convert, write."""
    run_command("export", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    checkpoint = "a checkpoint, a run folder, a folder above runs, a model folder, or hf:NAME on the Hugging Face Hub"
    parser.add_argument("--checkpoint", required=True, help=checkpoint)
    formats = "what is to read it: the program CTranslate2, or MarianMTModel of the package transformers"
    parser.add_argument("--format", required=True, choices=["ctranslate2", "marian"], help=formats)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder to write, new or empty")
    compute_type = f"type of the weights for ctranslate2, such as int8, float16 or bfloat16; default: {FLOAT32}"
    parser.add_argument("--compute_type", help=compute_type)


def run(options: argparse.Namespace) -> None:
    """Convert a model and write its folder."""
    from lit_transformer.checkpoints.ctranslate2_folder import write_ctranslate2_folder
    from lit_transformer.files import expanded, new_folder
    from lit_transformer.pretrained.marian_folder import write_marian_folder
    from lit_transformer.pretrained.places import load_translation_model

    if options.format == "marian" and options.compute_type is not None:
        raise UserError("--compute_type is for --format ctranslate2: leave it out, Marian's weights are float32")
    output = expanded(options.output)
    with new_folder(output) as unfinished:
        model = load_translation_model(options.checkpoint)
        if options.format == "marian":
            write_marian_folder(unfinished, model)
        else:
            compute_type = options.compute_type or FLOAT32
            write_ctranslate2_folder(unfinished, model.transformer, model.vocabularies, compute_type=compute_type)
    print(f"written: {output}")


if __name__ == "__main__":
    main()
