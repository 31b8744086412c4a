"""Options that several commands have."""

import argparse

from lit_transformer.decoding.settings import BATCH_TOKENS, BEAM_SIZE, LENGTH_PENALTY


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
