"""`python -m lit_transformer.generate`: continue prompts with a trained GPT."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING

from lit_transformer.cli.commands import run_command
from lit_transformer.cli.conversation import typed_lines
from lit_transformer.cli.input_lines import arriving_lines
from lit_transformer.cli.options import add_model_options, add_sampling_options, sampling_settings
from lit_transformer.errors import UserError
from lit_transformer.machine import limit_threads, prepare_products
from lit_transformer.search_settings import MAX_BEAM_SIZE, SamplingSettings, SearchSettings

if TYPE_CHECKING:
    from lit_transformer.decoding.generator import TextGenerator

LARGEST_CHUNK = 256
"""Prompts that are read at most before they are continued."""


def main(args: Sequence[str] | None = None) -> None:
    """Parse, continue, print."""
    run_command("generate", args, add_options, run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_model_options(parser)
    prompt = "text to continue, in quotes; the option can be repeated; default: one prompt per line of stdin"
    parser.add_argument("--prompt", action="append", help=prompt)
    new = "a continuation is cut at this many tokens; default: %(default)s"
    parser.add_argument("--max_new_tokens", type=int, default=50, help=new)
    parser.add_argument("--num_samples", type=int, default=1, help="continuations per prompt; default: %(default)s")
    add_sampling_options(parser)
    beam_size = "search for the most probable continuation in place of drawing one; 1 is greedy search"
    parser.add_argument("--beam_size", type=int, help=beam_size)
    parser.add_argument("--length_penalty", type=float, help="alpha of the length penalty of a beam; default: 0.6")


def run(options: argparse.Namespace) -> None:
    """Continue prompts and print one line for each continuation."""
    settings = settings_of(options)
    if options.prompt is None and (sys.stdin is None or sys.stdin.closed):
        raise UserError("stdin is closed: generate reads prompts from it; open it, or give --prompt")
    if sys.stderr.isatty():
        print(f"reading {options.checkpoint}", file=sys.stderr)
    from lit_transformer.decoding.devices import allow_tf32
    from lit_transformer.decoding.generator import TextGenerator

    generator = TextGenerator.load(options.checkpoint, device=options.device, batch_tokens=options.batch_tokens)
    allow_tf32(generator.device)
    if generator.device.type == "cpu":
        prepare_products()
        limit_threads()
    for rows in continued(generator, prompts_of(options), settings, options.max_new_tokens, options.num_samples):
        print(*rows, sep="\n", flush=True)


def settings_of(options: argparse.Namespace) -> SamplingSettings | SearchSettings:
    """How to continue.

    Raises:
        UserError: If a value is out of range, or would have no effect.
    """
    samples = options.beam_size is None
    sampling = sampling_settings(options, samples=samples, otherwise="leave it out, or --beam_size")
    if sampling is not None:
        if options.length_penalty is not None:
            raise UserError("--length_penalty is for a beam: give --beam_size")
        check_num_samples(options.num_samples, MAX_BEAM_SIZE)
        return sampling
    search = SearchSettings(beam_size=options.beam_size, min_length=0)
    check_num_samples(options.num_samples, search.beam_size)
    return search if options.length_penalty is None else replace(search, length_penalty=options.length_penalty)


def check_num_samples(num_samples: int, largest: int) -> None:
    """Raise UserError if it is out of range, before the model is read."""
    if not 1 <= num_samples <= largest:
        raise UserError(f"--num_samples {num_samples}: it must be at least 1 and at most {largest}")


def prompts_of(options: argparse.Namespace) -> Iterator[list[str]]:
    """The prompts in chunks, as they arrive."""
    if options.prompt is not None:
        return iter([options.prompt])
    if sys.stdin.isatty():
        return ([line] for line in typed_lines(None))
    return arriving_lines(sys.stdin, repeat(LARGEST_CHUNK))


def continued(
    generator: "TextGenerator",
    chunks: Iterable[list[str]],
    settings: SamplingSettings | SearchSettings,
    max_new_tokens: int,
    num_samples: int,
) -> Iterator[list[str]]:
    """Continue chunks of prompts, and yield the rows of each chunk. A line feed in a text is a space."""
    first_line = 1
    for prompts in chunks:
        found = generator.generate(
            prompts, settings, max_new_tokens=max_new_tokens, num_samples=num_samples, first_line=first_line
        )
        yield [" ".join(each.text.splitlines()) for generations in found for each in generations]
        first_line += len(prompts)


if __name__ == "__main__":
    main()
