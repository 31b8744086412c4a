"""Options that several commands share, and the objects that are made from them."""

import argparse
import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from lit_transformer.decoding.settings import BATCH_TOKENS, EngineName, EngineSettings
from lit_transformer.errors import UserError
from lit_transformer.machine import limit_threads, prepare_products
from lit_transformer.search_settings import LARGEST_EXTRA_LENGTH, SamplingSettings, SearchSettings

if TYPE_CHECKING:
    from lit_transformer.checkpoints.trained_model import TrainedModel
    from lit_transformer.decoding.translator import Translator

SEARCH_OPTIONS = {
    "beam_size": "1 is greedy search",
    "length_penalty": "alpha of the length penalty",
    "max_extra_length": "a translation is cut at this many tokens more than its source has",
    "min_length": "least number of tokens of a translation, 0 to allow empty ones",
}
"""The fields of `SearchSettings` that are options, with their help."""
SAMPLING_OPTIONS = {
    "temperature": (float, "below 1 favors probable tokens, and 0 takes the best one; default: 1"),
    "top_k": (int, "draw from this many most probable tokens only"),
    "top_p": (float, "draw from the most probable tokens only, which together have this probability"),
    "seed": (int, "another number draws other tokens; default: 0"),
}
"""The fields of `SamplingSettings`, with their types and help."""


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that use a trained model."""
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="a checkpoint, a run folder, a folder above runs, a model folder, or hf:NAME on the Hugging Face Hub",
    )
    batch_tokens = f"padded source tokens per batch; default: {BATCH_TOKENS}, or more on a GPU by its memory"
    parser.add_argument("--batch_tokens", type=int, help=batch_tokens)
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; default: the first GPU if there is one, else the CPU")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that may take another engine than the plain one. `load_translator` reads them."""
    default = EngineSettings()
    engine = "what searches; ctranslate2 is faster on CPUs (docs/speed.md); default: %(default)s"
    parser.add_argument("--engine", choices=get_args(EngineName), default=default.engine, help=engine)
    compute_type = "type of the engine's weights and products, such as int8 of ctranslate2; default: %(default)s"
    parser.add_argument("--compute_type", default=default.compute_type, help=compute_type)
    workers = "processes that translate a long input on a CPU; default: one per core"
    parser.add_argument("--workers", type=int, metavar="N", help=workers)


def engine_settings(options: argparse.Namespace) -> EngineSettings:
    """The settings that `add_engine_options` gives, or those of the plain engine for other commands.

    Raises:
        UserError: If a value is out of range.
    """
    names = (field.name for field in fields(EngineSettings))
    return EngineSettings(**{name: getattr(options, name) for name in names if hasattr(options, name)})


def load_translator(options: argparse.Namespace) -> "tuple[TrainedModel, Translator]":
    """The model of `add_model_options`, and its translator. A person at a terminal is told that it is being read.

    Raises:
        UserError: If there is no model that can be read, or the device cannot be used.
    """
    check_search_options(options)
    print_reading(options)
    from lit_transformer.pretrained.places import load_translation_model

    trained = load_translation_model(options.checkpoint)
    return trained, make_translator(trained, options)


def print_reading(options: argparse.Namespace) -> None:
    """Tell a person at a terminal that a model is being read."""
    if sys.stderr.isatty():
        print(f"reading {options.checkpoint}", file=sys.stderr)


def make_translator(trained: "TrainedModel", options: argparse.Namespace) -> "Translator":
    """The translator of a model, as `add_model_options` and `add_engine_options` say.

    Raises:
        UserError: If the device cannot be used.
    """
    from lit_transformer.decoding.devices import default_device
    from lit_transformer.decoding.translator import Translator

    device = default_device() if options.device is None else options.device
    translator = Translator(
        trained.transformer,
        trained.vocabularies,
        device=device,
        **trained.about,
        **asdict(engine_settings(options)),
    )
    if translator.device.type == "cpu":
        prepare_products()
        limit_threads()
    return translator


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that translate."""
    add_model_options(parser)
    for name, help in SEARCH_OPTIONS.items():
        default = getattr(SearchSettings(), name)
        unless = "unless the model has settings of its own"
        parser.add_argument(f"--{name}", type=type(default), help=f"{help}; default: {default}, {unless}")


def add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of all commands that draw tokens at random."""
    for name, (kind, help) in SAMPLING_OPTIONS.items():
        parser.add_argument(f"--{name}", type=kind, help=help)


def sampling_settings(options: argparse.Namespace, *, samples: bool, otherwise: str) -> SamplingSettings | None:
    """The settings that `add_sampling_options` gives, or None if the command searches.

    Args:
        options: The options.
        samples: Whether the command samples.
        otherwise: What to do if it does not, but such an option is given.

    Raises:
        UserError: If a value is out of range, or would have no effect.
    """
    given = _given(options, SAMPLING_OPTIONS)
    if samples:
        return SamplingSettings(**given)
    if given:
        raise UserError(f"--{next(iter(given))} is for sampling: {otherwise}")
    return None


def search_settings(
    options: argparse.Namespace, own: SearchSettings, *, n_best: int = 1, sampling: SamplingSettings | None = None
) -> SearchSettings:
    """The settings that `add_search_options` gives.

    Args:
        options: The options. Those that are not given are the model's own settings.
        own: The model's settings. A given `max_extra_length` takes the place of its `max_length`.
        n_best: Hypotheses to return per sentence.
        sampling: How to sample, in place of a search.

    Raises:
        UserError: If a value is out of range.
    """
    given = _given(options, SEARCH_OPTIONS)
    max_length = own.max_length if options.max_extra_length is None else None
    return replace(own, **given, max_length=max_length, n_best=n_best, sampling=sampling)


def check_search_options(options: argparse.Namespace) -> None:
    """Raise UserError if a value is out of range for every model, before one is read."""
    SearchSettings(max_length=LARGEST_EXTRA_LENGTH, **_given(options, SEARCH_OPTIONS))


def _given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The options of these names that are given. A command need not have all."""
    return {name: value for name in names if (value := getattr(options, name, None)) is not None}


def translations_file(trained: "TrainedModel", search: SearchSettings, options: argparse.Namespace) -> Path:
    """The default of `test --output`: a file whose name holds all that the translations depend on.

    It lies in the run's folder, or beside a checkpoint that belongs to no run. What the model itself brings need not be
    in the name.

    Args:
        trained: The model.
        search: How it searches.
        options: The options of the command.
    """
    settings = f"beam{search.beam_size}-alpha{search.length_penalty:g}"
    if (search.max_extra_length, search.max_length) != (trained.search.max_extra_length, trained.search.max_length):
        settings += f"-extra{search.max_extra_length}"
    if search.min_length != trained.search.min_length:
        settings += f"-min{search.min_length}"
    settings += "".join(f"-{value}" for value in engine_settings(options).changes.values())
    # The language comes from the model, and must not lead to another folder.
    parts = (options.corpus, options.split, trained.target)
    corpus, split, language = (re.sub(r"\W+", "-", part).strip("-") for part in parts)
    folder = trained.path.parent
    run = folder.parent if folder.name == "checkpoints" else folder
    name = trained.path.name.removesuffix(".ckpt")
    return run / "translations" / f"{corpus}.{split}.{name}.{settings}.{language}"


def check_number(option: str, number: int, size: int) -> None:
    """Raise UserError unless a model has this layer or head. Users count from 1."""
    if not 1 <= number <= size:
        raise UserError(f"{option} {number}: the model has {option.strip('-').rstrip('s')}s 1 to {size}")
