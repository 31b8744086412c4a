"""`python -m lit_transformer.attention`: show what a model attends to, as an interactive page, a picture or numbers."""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import add_search_options, check_number, load_translator, search_settings
from lit_transformer.errors import UserError
from lit_transformer.files import expanded, output_file

if TYPE_CHECKING:
    from lit_transformer.analysis.grids import Size
    from lit_transformer.decoding.attention import Attention

PICTURES = ("png", "svg", "pdf")
FORMATS = ("html", "json", *PICTURES)


def main(args: Sequence[str] | None = None) -> None:
    """Parse, compute, write."""
    run_command("attention", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_search_options(parser)
    parser.add_argument("--text", required=True, nargs="+", help="one or more sentences, each in quotes")
    parser.add_argument("--target", nargs="+", help="a target for each sentence; default: the model's translation")
    parser.add_argument("--output", required=True, help=f"file to write, with the ending .{', .'.join(FORMATS)}")
    parser.add_argument("--layers", type=int, nargs="+", help="layers, counted from 1; default: all")
    parser.add_argument("--head", type=int, help="draw only this head, counted from 1, of the layer of --layers")
    kinds = ("encoder", "decoder", "cross", "all")
    parser.add_argument("--kind", choices=kinds, default="cross", help="attention in a picture; default: %(default)s")
    figure = "picture of all heads, of the mean of each layer, of attention rollout, or of all heads' entropies"
    parser.add_argument("--figure", choices=("heads", "layers", "rollout", "entropy"), default="heads", help=figure)
    parser.add_argument("--words", action="store_true", help="show words in place of tokens")
    parser.add_argument("--dpi", type=int, default=150, help="dots per inch of a picture; default: %(default)s")
    size = "size of a picture in pixels, as in 1920x1080; default: as large as the sentence needs"
    parser.add_argument("--size", metavar="WIDTHxHEIGHT", help=size)


def run(options: argparse.Namespace) -> None:
    """Compute the attention weights and write them."""
    output = expanded(options.output)
    format = output.suffix.removeprefix(".").lower()
    if format not in FORMATS:
        raise UserError(f"--output {output}: the name must end in .{', .'.join(FORMATS)}")
    if format in PICTURES and len(options.text) > 1:
        raise UserError(f"--text has {len(options.text)} sentences: a picture shows one; .html and .json take several")
    if options.head is not None and len(options.layers or ()) != 1:
        raise UserError(f"--head {options.head}: name its layer, for example with --layers 1")
    size = picture_size(options)
    trained, translator = load_translator(options)
    settings = search_settings(options, trained.search)
    for layer in options.layers or ():
        check_number("--layers", layer, trained.transformer.config.num_layers)
    layers = options.layers and [layer - 1 for layer in options.layers]
    with output_file(output, inputs=[trained.path]) as unfinished:
        attentions = translator.attentions(options.text, options.target, settings, layers=layers)
        write(attentions, unfinished, format, size, options)
    print(f"written: {output}")


def picture_size(options: argparse.Namespace) -> "Size | None":
    """The size of a picture in inches.

    Raises:
        UserError: If there is no such size.
    """
    if not 10 <= options.dpi <= 2400:
        raise UserError(f"--dpi {options.dpi}: it must be from 10 to 2400")
    if options.size is None:
        return None
    if not re.fullmatch(r"[1-9]\d{2,4}x[1-9]\d{2,4}", options.size):
        raise UserError(f"--size {options.size}: give width and height in pixels, from 100 to 99999, as in 1920x1080")
    width, height = map(int, options.size.split("x"))
    return width / options.dpi, height / options.dpi


def write(
    attentions: "list[Attention]", path: Path, format: str, size: "Size | None", options: argparse.Namespace
) -> None:
    """Write the page, the picture or the numbers."""
    from lit_transformer.analysis import figures, maps, page, words

    if options.words:
        attentions = [words.in_words(attention) for attention in attentions]
    attention, kind = attentions[0], options.kind
    if format == "html":
        path.write_text(page.Page(attentions).html, encoding="utf-8")
    elif format == "json":
        sentences = [maps.as_json(attention, digits=6) for attention in attentions]
        path.write_text(json.dumps(sentences, ensure_ascii=False), encoding="utf-8")
    else:
        if options.head is not None:
            layer, head = options.layers[0] - 1, options.head - 1
            figure = figures.head_map(attention, kind, layer=layer, head=head, size=size)
        elif options.figure == "entropy":
            figure = figures.entropy_map(attention, size=size)
        else:
            draw = {"heads": figures.head_grid, "layers": figures.layer_means, "rollout": figures.rollout_map}
            figure = draw[options.figure](attention, kind, size=size)
        figures.save(figure, path, format=format, dpi=options.dpi)


if __name__ == "__main__":
    main()
