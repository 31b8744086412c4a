"""`python -m lit_transformer.align`: link the words of sentence pairs by cross-attention, `i-j i-j ...` a pair."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import add_model_options
from lit_transformer.errors import UserError

if TYPE_CHECKING:
    from lit_transformer.analysis.alignment import CrossHead
    from lit_transformer.evaluation.alignment_error import GoldLinks, LinkCounts
    from lit_transformer.model.config import TransformerConfig


def main(args: Sequence[str] | None = None) -> None:
    """Parse, align, print."""
    run_command("align", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_model_options(parser)
    parser.add_argument("--source", help="file of sentences in the checkpoint's source language, plain or .gz")
    parser.add_argument("--target", help="file of their translations, line by line")
    parser.add_argument("--demo", metavar="SPLIT", help="in place of files: the demo corpus with gold alignments")
    parser.add_argument("--layer", type=int, help="decoder layer, counted from 1; the best by gold links when left out")
    parser.add_argument("--head", type=int, help="head of this layer, counted from 1; the mean of all when left out")
    parser.add_argument(
        "--when", choices=("said", "read"), help="look where a target word is said (default) or was read"
    )
    parser.add_argument("--gold", help="file of the right links, i-j or ipj (possible): report the error rate")
    parser.add_argument(
        "--gold_first", type=int, choices=(0, 1), default=0, help="its first word: 1 in .talp (default %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    """Align as the options say; links go to stdout, figures to stderr."""
    check_options(options)
    from lit_transformer.analysis.alignment import MOMENTS, align, best_head, count_by_head
    from lit_transformer.checkpoints.places import load_checkpoint
    from lit_transformer.decoding.devices import default_device
    from lit_transformer.decoding.translator import Translator
    from lit_transformer.evaluation.alignment_error import count_links, to_pharaoh

    trained = load_checkpoint(options.checkpoint)
    sources, targets, gold = load(options, (trained.source, trained.target))
    device = default_device() if options.device is None else options.device
    translator = Translator(trained.transformer, trained.tokenizer, device=device, batch_tokens=options.batch_tokens)
    if options.layer is not None:
        at = chosen(options, trained.transformer.config)
    else:
        assert gold is not None, "checked with the options"
        moments = [options.when] if options.when else MOMENTS
        by_head = count_by_head(translator, sources, targets, gold, moments=moments)
        print_table(by_head)
        at = best_head(by_head)
    predicted = []
    for links in align(translator, sources, targets, at):
        print(to_pharaoh(links))
        if gold is not None:
            predicted.append(links)
    print(end="", flush=True)
    head = "" if at.head is None else f" --head {at.head + 1}"
    print(
        f"links by --layer {at.layer + 1}{head} --when {at.when} of {trained.path} (step {trained.step:,})",
        file=sys.stderr,
    )
    if gold is not None:
        scores = count_links(predicted, gold)
        print(
            f"AER {100 * scores.error_rate:.2f}  precision {100 * scores.precision:.2f}  "
            f"recall {100 * scores.recall:.2f}  {len(gold):,} sentence pairs, {scores.sure:,} sure links",
            file=sys.stderr,
        )


def chosen(options: argparse.Namespace, config: "TransformerConfig") -> "CrossHead":
    """The head that the options name; people count from 1."""
    from lit_transformer.analysis.alignment import MOMENTS, CrossHead

    for name, size in (("layer", config.num_layers), ("head", config.num_heads)):
        number = getattr(options, name)
        if number is not None and not 1 <= number <= size:
            raise UserError(f"--{name} {number}: the model has {name}s 1 to {size}")
    head = None if options.head is None else options.head - 1
    return CrossHead(options.layer - 1, head, options.when or MOMENTS[0])


def print_table(by_head: Mapping["CrossHead", "LinkCounts"]) -> None:
    """The error rate of every head, a line a layer."""
    for when in dict.fromkeys(at.when for at in by_head):
        columns = list(dict.fromkeys("mean" if at.head is None else str(at.head + 1) for at in by_head))
        print(f"AER by layer (line) and head, words linked where they are {when}", file=sys.stderr)
        print("layer " + "".join(f"{name:>7}" for name in columns), file=sys.stderr)
        for layer in dict.fromkeys(at.layer for at in by_head):
            rates = [counts.error_rate for at, counts in by_head.items() if at.layer == layer and at.when == when]
            print(f"{layer + 1:5} " + "".join(f"{100 * rate:7.2f}" for rate in rates), file=sys.stderr)


def check_options(options: argparse.Namespace) -> None:
    """Raise UserError if options do not fit together."""
    files = [name for name in ("source", "target", "gold") if getattr(options, name) is not None]
    if options.demo is None and files[:2] != ["source", "target"]:
        raise UserError("give --source FILE and --target FILE, or --demo SPLIT")
    if options.demo is not None and files:
        raise UserError(f"--demo has sentences and gold alignments of its own: leave out --{files[0]}")
    if options.head is not None and options.layer is None:
        raise UserError("--head is a head of one layer: give --layer, too")
    if options.layer is None and options.demo is None and options.gold is None:
        # No default would be honest: from one layer to the next the error rate goes from 8 % to 90 %.
        raise UserError("give --layer, or --gold and right links that the best layer and head are found with")


def load(
    options: argparse.Namespace, languages: tuple[str, str]
) -> tuple[list[str], list[str], list["GoldLinks"] | None]:
    """The sentences of both sides, and their right links if there are any."""
    from lit_transformer.data.demo.corpus import demo_pairs
    from lit_transformer.data.text_folder import pair_batches
    from lit_transformer.evaluation.alignment_error import GoldLinks, check_gold, read_gold

    if options.demo is not None:
        if languages not in (("en", "de"), ("de", "en")):
            raise UserError(f"--demo is English-German, but the checkpoint translates {' to '.join(languages)}")
        pairs = demo_pairs(options.demo)
        english, german = [pair.english for pair in pairs], [pair.german for pair in pairs]
        if languages[0] == "en":
            return english, german, [GoldLinks(frozenset(pair.alignment), frozenset()) for pair in pairs]
        return german, english, [GoldLinks(frozenset((j, i) for i, j in pair.alignment), frozenset()) for pair in pairs]
    batches = list(pair_batches(Path(options.source), Path(options.target)))
    sources, targets = ([text for batch in batches for text in batch[side].to_pylist()] for side in range(2))
    if options.gold is None:
        return sources, targets, None
    gold = read_gold(options.gold, first_word=options.gold_first)
    check_gold(gold, sources, targets, options.gold)
    return sources, targets, gold


if __name__ == "__main__":
    main()
