"""`python -m lit_transformer.attention`: show what a model attends to, as an interactive page, a picture or numbers."""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import (
    SEARCH_OPTIONS,
    add_search_options,
    check_number,
    make_translator,
    print_reading,
    search_settings,
)
from lit_transformer.decoding.settings import BATCH_TOKENS
from lit_transformer.errors import UserError
from lit_transformer.files import expanded, output_file

if TYPE_CHECKING:
    from lit_transformer.analysis.grids import Size
    from lit_transformer.checkpoints.descendants import TrainedDescendant
    from lit_transformer.checkpoints.trained_model import TrainedModel
    from lit_transformer.decoding.attention import Attention
    from lit_transformer.model.config import TransformerConfig

PICTURES = ("png", "svg", "pdf")
FORMATS = ("html", "json", *PICTURES)


def main(args: Sequence[str] | None = None) -> None:
    """Parse, compute, write."""
    run_command("attention", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_search_options(parser)
    parser.add_argument("--text", required=True, nargs="+", help="one or more sentences, each in quotes")
    target = "a target for each sentence; default: the model's translation; a BART or T5 needs it"
    parser.add_argument("--target", nargs="+", help=target)
    parser.add_argument("--output", required=True, help=f"file to write, with the ending .{', .'.join(FORMATS)}")
    parser.add_argument("--layers", type=int, nargs="+", help="layers, counted from 1; default: all")
    parser.add_argument("--head", type=int, help="draw only this head, counted from 1, of the layer of --layers")
    kind = "attention in a picture; default: cross, or the kind that a model of one stack has"
    parser.add_argument("--kind", choices=("encoder", "decoder", "cross", "all"), help=kind)
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
    print_reading(options)
    from lit_transformer.pretrained.places import load_pretrained

    trained = load_pretrained(options.checkpoint)
    with output_file(output, inputs=[trained.path]) as unfinished:
        write(compute(trained, options), unfinished, format, size, options)
    print(f"written: {output}")


def compute(trained: "TrainedModel | TrainedDescendant", options: argparse.Namespace) -> "list[Attention]":
    """The attention weights of the sentences.

    Raises:
        UserError: If an option does not fit the model.
    """
    from lit_transformer.checkpoints.trained_model import TrainedModel

    if not isinstance(trained, TrainedModel):
        return compute_descendant(trained, options)
    layers = chosen_layers(options, trained.transformer.config)
    translator = make_translator(trained, options)
    return translator.attentions(options.text, options.target, search_settings(options, trained.search), layers=layers)


def compute_descendant(trained: "TrainedDescendant", options: argparse.Namespace) -> "list[Attention]":
    """The attention weights of a model that does not translate.

    Raises:
        UserError: If an option does not fit the model.
    """
    from lit_transformer.decoding.devices import default_device
    from lit_transformer.decoding.self_attention import record_text_attention

    check_descendant(trained, options)
    config: Any = trained.model.config
    return record_text_attention(
        trained,
        options.text,
        options.target,
        layers=chosen_layers(options, config),
        device=default_device() if options.device is None else options.device,
        batch_tokens=BATCH_TOKENS if options.batch_tokens is None else options.batch_tokens,
    )


def chosen_layers(options: argparse.Namespace, config: "TransformerConfig") -> list[int] | None:
    """The layers of --layers, counted from 0. Raises UserError if there is no such layer."""
    for layer in options.layers or ():
        check_number("--layers", layer, config.num_layers)
    return options.layers and [layer - 1 for layer in options.layers]


def check_descendant(trained: "TrainedDescendant", options: argparse.Namespace) -> None:
    """Raise UserError if options make no sense for a descendant."""
    model = f"--checkpoint {options.checkpoint} is a model of kind {trained.name}"
    kinds = {"gpt": ["decoder"], "bert": ["encoder"]}.get(trained.name, ["encoder", "decoder", "cross"])
    if trained.name == "vit":
        raise UserError(
            f"{model}, which reads images and no text: record its attention in Python (docs/descendants.md)"
        )
    if len(kinds) > 1 and options.target is None:
        raise UserError(f"{model}, which does not translate: give a target for each text with --target")
    if len(kinds) == 1 and options.target is not None:
        raise UserError(f"{model}, which has one stack: leave out --target")
    if options.kind not in (None, "all", *kinds):
        raise UserError(f"--kind {options.kind}: {model}, which has the kind {kinds[0]} only")
    for name in SEARCH_OPTIONS:
        if getattr(options, name) is not None:
            raise UserError(f"{model}, for which nothing is searched: leave out --{name}")


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
    attention = attentions[0]
    kind = options.kind or maps.kinds_of(attention)[-1]
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
