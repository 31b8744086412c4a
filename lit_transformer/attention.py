"""`python -m lit_transformer.attention`: show what a model attends to, as an interactive page, a picture or numbers."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import add_search_options, check_number, load_translator, search_settings
from lit_transformer.errors import UserError
from lit_transformer.files import expanded, output_file

if TYPE_CHECKING:
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
    kinds = ("encoder", "decoder", "cross")
    parser.add_argument("--kind", choices=kinds, default="cross", help="attention in a picture; default: %(default)s")
    figure = "picture of all heads, of the mean of each layer, of attention rollout, or of all heads' entropies"
    parser.add_argument("--figure", choices=("heads", "layers", "rollout", "entropy"), default="heads", help=figure)


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
    settings = search_settings(options)
    trained, translator = load_translator(options)
    for layer in options.layers or ():
        check_number("--layers", layer, trained.transformer.config.num_layers)
    layers = options.layers and [layer - 1 for layer in options.layers]
    with output_file(output, inputs=[trained.path]) as unfinished:
        write(translator.attentions(options.text, options.target, settings, layers=layers), unfinished, format, options)
    print(f"written: {output}")


def write(attentions: "list[Attention]", path: Path, format: str, options: argparse.Namespace) -> None:
    """Write the page, the picture or the numbers."""
    from lit_transformer.analysis import figures, maps, page

    if format == "html":
        path.write_text(page.Page(attentions).html, encoding="utf-8")
    elif format == "json":
        sentences = [maps.as_json(attention, digits=6) for attention in attentions]
        path.write_text(json.dumps(sentences, ensure_ascii=False), encoding="utf-8")
    elif options.head is not None:
        layer, head = options.layers[0] - 1, options.head - 1
        figures.save(figures.head_map(attentions[0], options.kind, layer=layer, head=head), path, format=format)
    elif options.figure == "entropy":
        figures.save(figures.entropy_map(attentions[0]), path, format=format)
    else:
        draw = {"heads": figures.head_grid, "layers": figures.layer_means, "rollout": figures.rollout_map}
        figures.save(draw[options.figure](attentions[0], options.kind), path, format=format)


if __name__ == "__main__":
    main()
