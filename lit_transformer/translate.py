"""`python -m lit_transformer.translate`: translate stdin to stdout, one sentence per line."""

import argparse
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from io import TextIOWrapper
from itertools import count, islice
from typing import TYPE_CHECKING, BinaryIO

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.options import add_search_options, search_settings
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
    """The options of this command."""
    add_search_options(parser)
    parser.add_argument(
        "--n_best", type=int, help="print this many candidates per line, as LINE, SCORE and TEXT with tabs between"
    )


def run(options: argparse.Namespace) -> None:
    """Translate until the input ends."""
    settings = search_settings(options, n_best=1 if options.n_best is None else options.n_best)
    if sys.stdin is None or sys.stdout is None:
        raise UserError("stdin or stdout is closed: translate reads the one and writes the other; open both")
    from lit_transformer.decoding.devices import allow_tf32
    from lit_transformer.decoding.translator import Translator

    translator = Translator.load(options.checkpoint, device=options.device, batch_tokens=options.batch_tokens)
    allow_tf32(translator.device)
    if sys.stdin.isatty():
        converse(translator, settings, with_scores=options.n_best is not None)
    else:
        stream(translator, settings, sys.stdin.buffer, with_scores=options.n_best is not None)


def stream(translator: "Translator", settings: SearchSettings, file: BinaryIO, *, with_scores: bool) -> None:
    """As many lines out as in, in the same order."""
    lines = decoded_lines(file)
    first = 1
    while texts := list(islice(lines, LINES_AT_A_TIME)):
        answer(translator, settings, texts, first, with_scores=with_scores)
        first += len(texts)


def converse(translator: "Translator", settings: SearchSettings, *, with_scores: bool) -> None:
    """A person types sentences."""
    print("Type a sentence and press Enter; Ctrl-D ends.", file=sys.stderr)
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")
    for number in count(1):
        # Not by `input`, which would write it into a file that stdout goes to.
        print("> ", end="", file=sys.stderr, flush=True)
        try:
            text = input()
        except EOFError:
            print(file=sys.stderr)
            return
        answer(translator, settings, [text], number, with_scores=with_scores)


def answer(
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


def decoded_lines(file: BinaryIO) -> Iterator[str]:
    """Lines end at a line feed only: other characters that Python takes for line ends are text."""
    for number, line in enumerate(file, start=1):
        text = line.removeprefix(BOM_UTF8) if number == 1 else line
        try:
            yield text.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise UserError(f"stdin, line {number}: not UTF-8 ({error.reason}): convert the text to UTF-8") from error


if __name__ == "__main__":
    main()
