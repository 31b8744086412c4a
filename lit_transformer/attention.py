"""`python -m lit_transformer.attention`: show what a model attends to, as a page to click in, a picture, or numbers."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import add_search_options, search_settings
from lit_transformer.errors import UserError
from lit_transformer.files import output_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from lit_transformer.decoding.attention import Attention

PICTURES = ("png", "svg", "pdf")
FORMATS = ("html", "json", *PICTURES)
JSON_DIGITS = 6


def main(args: Sequence[str] | None = None) -> None:
    """Parse, look, write."""
    run_command("attention", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_search_options(parser)
    parser.add_argument("--text", required=True, nargs="+", help="a sentence, or several, each in quotes")
    parser.add_argument("--target", nargs="+", help="what the model is to say for each; else its own translation")
    parser.add_argument("--output", required=True, help=f"file to write; its ending is one of {', '.join(FORMATS)}")
    parser.add_argument("--layers", type=int, nargs="+", help="which layers, counted from 1; all when left out")
    parser.add_argument("--head", type=int, help="one head, counted from 1, of one layer as a large picture")
    parser.add_argument(
        "--kind", choices=("encoder", "decoder", "cross"), default="cross", help="of pictures; default %(default)s"
    )
    parser.add_argument(
        "--figure",
        choices=("heads", "layers", "rollout", "entropy"),
        default="heads",
        help="picture of all heads, of the layers' means, of their rollout, of the heads' entropy (all kinds)",
    )


def run(options: argparse.Namespace) -> None:
    """Look and write as the options say."""
    output = Path(options.output)
    format = output.suffix.removeprefix(".").lower()
    if format not in FORMATS:
        raise UserError(f"--output {output}: the name must end in one of .{', .'.join(FORMATS)}")
    if format in PICTURES and len(options.text) > 1:
        raise UserError(f"--text has {len(options.text)} sentences: a picture shows one; .html and .json take several")
    if options.head is not None and len(options.layers or ()) != 1:
        raise UserError(f"--head {options.head}: say of which one layer, for example --layers 1")
    settings = search_settings(options)
    from lit_transformer.decoding.translator import Translator

    translator = Translator.load(options.checkpoint, device=options.device, batch_tokens=options.batch_tokens)
    num_layers = translator.transformer.config.num_layers
    for layer in options.layers or ():
        if not 1 <= layer <= num_layers:
            raise UserError(f"--layers {layer}: the model has layers 1 to {num_layers}")
    with output_file(output, inputs=[Path(options.checkpoint)]) as unfinished:
        attentions = translator.attentions(
            options.text,
            options.target,
            settings,
            layers=options.layers and [layer - 1 for layer in options.layers],
        )
        write(attentions, unfinished, format, options)
    print(f"written: {output}")


def write(attentions: "list[Attention]", path: Path, format: str, options: argparse.Namespace) -> None:
    """Write the page, the picture or the numbers."""
    if format in PICTURES:
        from lit_transformer.analysis.figures import save

        save(figure(attentions[0], options), path, format=format)
    elif format == "html":
        from lit_transformer.analysis.page import Page

        path.write_text(Page(attentions).html, encoding="utf-8")
    else:
        from lit_transformer.analysis.maps import as_json

        sentences = [as_json(attention, digits=JSON_DIGITS) for attention in attentions]
        path.write_text(json.dumps(sentences, ensure_ascii=False), encoding="utf-8")


def figure(attention: "Attention", options: argparse.Namespace) -> "Figure":
    """The picture that the options ask for."""
    from lit_transformer.analysis import figures

    if options.head is not None:
        return figures.head_map(attention, options.kind, layer=options.layers[0] - 1, head=options.head - 1)
    if options.figure == "heads":
        return figures.head_grid(attention, options.kind)
    if options.figure == "layers":
        return figures.layer_means(attention, options.kind)
    if options.figure == "rollout":
        return figures.rollout_map(attention, options.kind)
    return figures.entropy_map(attention)


if __name__ == "__main__":
    main()
