"""`python -m lit_transformer.align`: extract word alignments from cross-attention, one line per sentence pair."""

import argparse
import sys
from collections.abc import Sequence

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import add_model_options, check_number, load_translator
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.progress import progress


def main(args: Sequence[str] | None = None) -> None:
    """Parse, align, print."""
    run_command("align", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_model_options(parser)
    parser.add_argument("--source", help="file of source sentences, plain or compressed; spaces separate words")
    parser.add_argument("--target", help="file of their translations, line by line")
    parser.add_argument("--demo", metavar="SPLIT", help="align a split of the demo corpus, which has gold links")
    parser.add_argument("--layer", type=int, help="decoder layer, counted from 1; default: the best one by gold links")
    parser.add_argument("--head", type=int, help="head of --layer, counted from 1; default: the mean of all heads")
    when = (
        "use the position that predicts a target word (said) or reads it; default: said with --layer, else the better"
    )
    parser.add_argument("--when", choices=("said", "read"), help=when)
    parser.add_argument("--gold", help="file of gold links, written i-j (sure) or ipj (possible), for the error rate")
    first = "how --gold counts words: from 0, or from 1 as .talp files do; default: %(default)s"
    parser.add_argument("--gold_first", type=int, choices=(0, 1), default=0, help=first)


def run(options: argparse.Namespace) -> None:
    """Print links on stdout in Pharaoh format, and error rates on stderr."""
    check_options(options)
    from lit_transformer.analysis.aligned_text import demo_text, read_aligned_text
    from lit_transformer.analysis.alignment import MOMENTS, CrossHead, align, best_head, count_by_head, error_table
    from lit_transformer.evaluation.alignment_error import count_links, to_pharaoh

    trained, translator = load_translator(options)
    if options.demo is not None:
        text = demo_text(options.demo, source=trained.source, target=trained.target)
    else:
        source, target = expanded(options.source), expanded(options.target)
        gold_file = None if options.gold is None else expanded(options.gold)
        text = read_aligned_text(source, target, gold_file, first_word=options.gold_first)
    if options.layer is not None:
        check_number("--layer", options.layer, trained.transformer.config.num_layers)
        if options.head is not None:
            check_number("--head", options.head, trained.transformer.config.num_heads)
        at = CrossHead(options.layer - 1, options.head and options.head - 1, options.when or MOMENTS[0])
    else:
        assert text.gold is not None, "checked with the options"
        moments = [options.when] if options.when else MOMENTS
        by_head = count_by_head(translator, text.sources, text.targets, text.gold, moments=moments)
        print(error_table(by_head), file=sys.stderr)
        at = best_head(by_head)
    predicted = []
    # On a terminal, the links show how far the work is.
    is_shown = not sys.stdout.isatty()
    with progress("aligning", len(text.sources), "pair", is_shown=is_shown) as advance:
        for links in align(translator, text.sources, text.targets, at):
            print(to_pharaoh(links), flush=True)
            predicted.append(links)
            advance(1)
    chosen = f"--layer {at.layer + 1}" + ("" if at.head is None else f" --head {at.head + 1}") + f" --when {at.when}"
    print(f"links by {chosen} of {trained.path} (step {trained.step:,})", file=sys.stderr)
    if text.gold is not None:
        counts = count_links(predicted, text.gold)
        print(f"{counts}  {len(text.gold):,} sentence pairs, {counts.sure:,} sure links", file=sys.stderr)


def check_options(options: argparse.Namespace) -> None:
    """Raise UserError if options do not fit together."""
    files = [name for name in ("source", "target", "gold") if getattr(options, name) is not None]
    if options.demo is None and files[:2] != ["source", "target"]:
        raise UserError("give --source FILE and --target FILE, or --demo SPLIT")
    if options.demo is not None and files:
        raise UserError(f"--demo has sentences and gold links of its own: leave out --{files[0]}")
    if options.head is not None and options.layer is None:
        raise UserError("--head is a head of one layer: give --layer, too")
    if options.layer is None and options.demo is None and options.gold is None:
        # No default would be honest: the error rate varies from 8 % to 90 % between layers.
        raise UserError("give --layer, or find the best layer and head by gold links with --gold")


if __name__ == "__main__":
    main()
