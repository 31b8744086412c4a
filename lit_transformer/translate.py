"""`python -m lit_transformer.translate`: translate lines of text, one sentence per line."""

import argparse
import sys
from collections.abc import Sequence

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.input_lines import opened_input
from lit_transformer.cli.options import (
    add_engine_options,
    add_sampling_options,
    add_search_options,
    load_translator,
    sampling_settings,
    search_settings,
)
from lit_transformer.cli.translating import translate_file, translated_rows
from lit_transformer.errors import UserError
from lit_transformer.files import expanded


def main(args: Sequence[str] | None = None) -> None:
    """Parse, translate, print."""
    run_command("translate", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_search_options(parser)
    add_engine_options(parser)
    sample = "draw each translation at random, the same for a line in any batch; it has no beam"
    parser.add_argument("--sample", action="store_true", help=sample)
    add_sampling_options(parser)
    n_best = "print this many different candidates per line, best first, as LINE, SCORE and TEXT with tabs between"
    parser.add_argument("--n_best", type=int, help=f"{n_best}; 1 shows the scores; samples are in order")
    parser.add_argument("--input", metavar="FILE", help="file to translate, plain or compressed; default: stdin")
    output = "file for the translations of --input; the same command continues after an interruption; default: stdout"
    parser.add_argument("--output", metavar="FILE", help=output)
    parser.add_argument("--overwrite", action="store_true", help="replace an --output that exists")


def run(options: argparse.Namespace) -> None:
    """Translate until the input ends. Each chunk is written before the next one is awaited."""
    check_options(options)
    n_best, source = options.n_best, options.input and expanded(options.input)
    sampling = sampling_settings(options, samples=options.sample, otherwise="give --sample")
    trained, translator = load_translator(options)
    settings = search_settings(options, trained.search, n_best=1 if n_best is None else n_best, sampling=sampling)
    from lit_transformer.decoding.devices import allow_tf32

    allow_tf32(translator.device)
    if options.output is not None:
        translate_file(translator, settings, n_best, source=source, output=expanded(options.output))
        return
    with opened_input(source, translator) as (chunks, total):
        # On a terminal, the translations show how far the work is. A bar would cover what a person types.
        is_shown = not sys.stdout.isatty() and (source is not None or not sys.stdin.isatty())
        for rows in translated_rows(translator, chunks, settings, n_best, total=total, is_shown=is_shown):
            print(*rows, sep="\n", flush=True)


def check_options(options: argparse.Namespace) -> None:
    """Raise UserError if options do not fit together, or the standard streams that are needed are closed."""
    if options.sample and options.beam_size is not None:
        raise UserError(f"--beam_size {options.beam_size}: --sample has no beam; leave out one of them")
    if options.sample and options.engine != "torch":
        raise UserError(f"--engine {options.engine} cannot sample: leave out --engine or --sample")
    if options.output is None:
        if options.overwrite:
            raise UserError("--overwrite needs --output")
        if sys.stdout is None or (options.input is None and (sys.stdin is None or sys.stdin.closed)):
            raise UserError("stdin or stdout is closed: translate reads stdin and writes stdout; open both")
    elif options.input is None:
        raise UserError("--output needs --input FILE; or write the translations of stdin to a file with > FILE")
    elif expanded(options.output).is_file() and not options.overwrite:
        raise UserError(f"--output {options.output} exists: choose another file, or give --overwrite")
    if options.input is not None:
        from lit_transformer.data.compression import open_text

        with open_text(expanded(options.input)) as file:
            file.read(1)


if __name__ == "__main__":
    main()
