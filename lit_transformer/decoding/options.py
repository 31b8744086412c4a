"""How translations are searched for unless told otherwise (section 6.1), and the options that change it."""

import argparse

BEAM_SIZE = 4
LENGTH_PENALTY = 0.6
BATCH_TOKENS = 2048


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """The options that all verbs which translate have in common."""
    parser.add_argument("--checkpoint", required=True, help="a checkpoint, a run folder, or a folder above runs")
    parser.add_argument("--beam_size", type=int, default=BEAM_SIZE, help="1 is greedy search (default %(default)s)")
    parser.add_argument(
        "--length_penalty", type=float, default=LENGTH_PENALTY, help="GNMT's alpha (default %(default)s)"
    )
    parser.add_argument(
        "--batch_tokens",
        type=int,
        default=BATCH_TOKENS,
        help="padded source pieces translated at a time (default %(default)s)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; the first GPU, if there is one, when left out")
