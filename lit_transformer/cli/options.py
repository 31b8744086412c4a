"""Options that several commands have."""

import argparse

from lit_transformer.decoding.settings import BATCH_TOKENS, SearchSettings


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
    default = SearchSettings()
    parser.add_argument(
        "--beam_size", type=int, default=default.beam_size, help="1 is greedy search (default %(default)s)"
    )
    parser.add_argument(
        "--length_penalty", type=float, default=default.length_penalty, help="GNMT's alpha (default %(default)s)"
    )


def search_settings(options: argparse.Namespace, *, n_best: int = 1) -> SearchSettings:
    """The settings that the options of `add_search_options` give.

    Raises:
        UserError: If a value is out of range.
    """
    return SearchSettings(beam_size=options.beam_size, length_penalty=options.length_penalty, n_best=n_best)
