"""How translations are searched for unless told otherwise (section 6.1), and the options that change it."""

import argparse

from lit_transformer.errors import UserError

BEAM_SIZE = 4
MAX_BEAM_SIZE = 10_000
LENGTH_PENALTY = 0.6
BATCH_TOKENS = 2048
MAX_LENGTH_PENALTY = 10.0
"""From 17 on, the penalty of the longest outputs overflows float32."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options of all commands that use a trained model."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="a checkpoint, a run folder, a folder above runs, a model folder, or hf:NAME of the Hugging Face Hub",
    )
    parser.add_argument(
        "--batch_tokens",
        type=int,
        default=BATCH_TOKENS,
        help="padded source pieces that go through the model at a time (default %(default)s)",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; the first GPU, if there is one, when left out")


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Options of all commands that translate."""
    add_model_options(parser)
    parser.add_argument("--beam_size", type=int, default=BEAM_SIZE, help="1 is greedy search (default %(default)s)")
    parser.add_argument(
        "--length_penalty", type=float, default=LENGTH_PENALTY, help="GNMT's alpha (default %(default)s)"
    )


def check_search(*, beam_size: int, length_penalty: float, n_best: int, batch_tokens: int) -> None:
    """Raise UserError if the model cannot translate with these settings."""
    for name, value in (("beam_size", beam_size), ("batch_tokens", batch_tokens)):
        if value < 1:
            raise UserError(f"{name} is {value}: it must be at least 1")
    if beam_size > MAX_BEAM_SIZE:
        raise UserError(f"beam_size is {beam_size}: it must be at most {MAX_BEAM_SIZE}")
    if not 1 <= n_best <= beam_size:
        raise UserError(f"n_best is {n_best}: it must be at least 1 and at most beam_size, {beam_size}")
    # With less than 0 the end of a sentence could not be known.
    if not 0.0 <= length_penalty <= MAX_LENGTH_PENALTY:
        raise UserError(f"length_penalty is {length_penalty}: it must be from 0 to {MAX_LENGTH_PENALTY:g}")
