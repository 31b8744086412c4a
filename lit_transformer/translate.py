"""`python -m lit_transformer.translate`: translate stdin to stdout, one sentence per line."""

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import add_search_options, load_translator, search_settings
from lit_transformer.cli.stdin import decoded_lines, typed_lines
from lit_transformer.decoding.settings import SearchSettings
from lit_transformer.errors import UserError

if TYPE_CHECKING:
    from lit_transformer.decoding.translator import Translator

LINES_AT_A_TIME = 10_000
"""Lines that are read before they are translated: enough to form batches of similar length."""


def main(args: Sequence[str] | None = None) -> None:
    """Parse, translate, print."""
    run_command("translate", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_search_options(parser)
    parser.add_argument(
        "--n_best", type=int, help="print this many candidates per line, as LINE, SCORE and TEXT with tabs between"
    )


def run(options: argparse.Namespace) -> None:
    """Translate until the input ends."""
    settings = search_settings(options, n_best=1 if options.n_best is None else options.n_best)
    if sys.stdin is None or sys.stdout is None:
        raise UserError("stdin or stdout is closed: translate reads stdin and writes stdout; open both")
    from lit_transformer.decoding.devices import allow_tf32

    _, translator = load_translator(options)
    allow_tf32(translator.device)
    is_typed = sys.stdin.isatty()
    lines = typed_lines() if is_typed else decoded_lines(sys.stdin.buffer)
    first = 1
    while texts := list(islice(lines, 1 if is_typed else LINES_AT_A_TIME)):
        print_translations(translator, settings, texts, first, with_scores=options.n_best is not None)
        first += len(texts)


def print_translations(
    translator: "Translator", settings: SearchSettings, texts: list[str], first: int, *, with_scores: bool
) -> None:
    """Print the translations of lines numbered from `first`."""
    for number, best in enumerate(translator.candidates(texts, settings, first_line=first), start=first):
        if not with_scores:
            print(best[0].text)
        else:
            for candidate in best:
                print(f"{number}\t{candidate.score:.4f}\t{candidate.text}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
