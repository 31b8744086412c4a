"""`python -m lit_transformer.translate`: translate stdin to stdout, one sentence per line."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import add_search_options, load_translator, search_settings
from lit_transformer.cli.stdin import arriving_lines, typed_lines
from lit_transformer.errors import UserError
from lit_transformer.notes import print_note

if TYPE_CHECKING:
    from lit_transformer.decoding.translations import Translation

LINES_AT_A_TIME = 10_000
"""Lines that are read at most before they are translated: enough to form batches of similar length."""


def main(args: Sequence[str] | None = None) -> None:
    """Parse, translate, print."""
    run_command("translate", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_search_options(parser)
    n_best = "print this many different candidates per line, best first, as LINE, SCORE and TEXT with tabs between"
    parser.add_argument("--n_best", type=int, help=n_best)


def run(options: argparse.Namespace) -> None:
    """Translate until the input ends. Each chunk is printed before the next one is awaited."""
    settings = search_settings(options, n_best=1 if options.n_best is None else options.n_best)
    if sys.stdin is None or sys.stdin.closed or sys.stdout is None:
        raise UserError("stdin or stdout is closed: translate reads stdin and writes stdout; open both")
    from lit_transformer.decoding.devices import allow_tf32

    _, translator = load_translator(options)
    allow_tf32(translator.device)
    typed = ([line] for line in typed_lines())
    first, num_few = 1, 0
    for texts in typed if sys.stdin.isatty() else arriving_lines(sys.stdin, LINES_AT_A_TIME):
        found = translator.candidates(texts, settings, first_line=first)
        for number, best in enumerate(found, start=first):
            print(best[0].text if options.n_best is None else rows(number, best, settings.n_best))
        sys.stdout.flush()
        first += len(texts)
        num_few += sum(len(best) < settings.n_best for best in found)
    if num_few:
        print_note(
            f"{num_few:,} of {first - 1:,} lines have fewer than {settings.n_best} different translations: their other "
            "rows have no text and the score -inf"
        )


def rows(number: int, candidates: "list[Translation]", n_best: int) -> str:
    """The candidates of a line as `n_best` rows. If there are fewer, the other rows have no text and the score -inf."""
    found = [f"{number}\t{candidate.score:.4f}\t{candidate.text}" for candidate in candidates]
    return "\n".join([*found, *[f"{number}\t-inf\t"] * (n_best - len(found))])


if __name__ == "__main__":
    main()
