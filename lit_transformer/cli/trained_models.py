"""What `fit` takes from trained models: all of one (`init_from`), or a vocabulary (`data.tokenizer`)."""

import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace

from lit_transformer.checkpoints.places import HUB_PREFIX, find_checkpoint, newest_readable_checkpoint
from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.cli.tasks import DEFAULT
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabulary import vocabulary_file
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.notes import counted, print_note
from lit_transformer.pretrained.places import load_pretrained, load_translation_model
from lit_transformer.runs.run_folder import SEARCHED

TOKENIZERS = {"data.tokenizer": "target", "data.source_tokenizer": "source"}
"""Settings that take a trained model's vocabulary, and the side of the model that each takes."""


class TakenModel(NamedTuple):
    """A trained model from which a run takes its architecture and vocabulary."""

    trained: TrainedModel
    is_resumed: bool
    """Whether the run resumes from it, so that its weights are loaded with the training state."""
    settings: dict[str, Any]
    """The settings that follow from it, by their names."""
    replaced: list[str]
    """The settings of this run that differed, with both values."""

    @property
    def record(self) -> dict[str, Any]:
        """The origin of the weights, for people."""
        return {"path": str(self.trained.path), "step": self.trained.step}

    def print_report(self, settings: Namespace) -> None:
        """Print what was taken."""
        trained = self.trained
        parameters = sum(weight.numel() for weight in trained.transformer.parameters())
        sizes = (trained.vocabularies.target.vocab_size, trained.vocabularies.source_vocab_size)
        tokens = " and ".join(f"{size:,}" for size in sizes if size is not None)
        print(
            f"initialized from {trained.path}, step {trained.step:,}: {parameters / 1e6:.1f} million parameters, "
            f"a vocabulary of {tokens} tokens, {trained.source} to {trained.target}",
            flush=True,
        )
        if self.replaced:
            print(f"its settings replace those of this run: {', '.join(self.replaced)}", flush=True)
        if (trained.source, trained.target) != (settings.data.source, settings.data.target):
            print_note(
                f"init_from translates {trained.source} to {trained.target}, and this run trains "
                f"{settings.data.source} to {settings.data.target}"
            )


def take_model(settings: Namespace) -> TakenModel | None:
    """Read the model of `init_from`, or the checkpoint from which its run is resumed.

    A run that was initialized can be resumed without the model that it began with.

    Raises:
        UserError: There is no such model, or it cannot be read.
    """
    if settings.init_from is None:
        return None
    if settings.task != DEFAULT.name:
        raise UserError(
            f"init_from fine-tunes models that translate, and task is {settings.task}: leave it out, or load the model "
            "in a script (docs/descendants.md)"
        )
    resumed = resumed_checkpoint(settings)
    try:
        trained = load_translation_model(resumed or settings.init_from)
    except UserError as error:
        raise UserError(
            f"{'ckpt_path' if resumed else 'init_from'} {resumed or settings.init_from}: {error}"
        ) from error
    vocabularies, cache_dir = trained.vocabularies, expanded(settings.data.cache_dir)
    architecture = {f"model.transformer.{name}": value for name, value in asdict(trained.transformer.config).items()}
    del architecture["model.transformer.dropout"]
    own_source = None if vocabularies.are_shared else vocabulary_file(vocabularies.source, cache_dir)
    taken = architecture | {
        "model.vocab_size": vocabularies.target.vocab_size,
        "model.source_vocab_size": vocabularies.source_vocab_size,
        "data.tokenizer": vocabulary_file(vocabularies.target, cache_dir),
        "data.source_tokenizer": own_source,
    }
    differing = [name for name in taken if settings.get(name) != taken[name]]
    replaced = [
        f"{name} {settings.get(name)} -> {taken[name]}"
        for name in differing
        if name not in TOKENIZERS or settings.get(name) is not None
    ]
    return TakenModel(trained, resumed is not None, taken, replaced)


def take_vocabularies(settings: Namespace) -> dict[str, Any]:
    """The files with the vocabularies of the trained models that the settings of tokenizers name, by these settings.

    Raises:
        UserError: A model cannot be read, or has a vocabulary per language where one for both is needed.
    """
    taken = {}
    for name, side in TOKENIZERS.items():
        place = settings.get(name)
        if place is None or not _is_trained_model(place):
            continue
        trained = load_pretrained(place)
        if isinstance(trained, TrainedModel):
            if settings.task == DEFAULT.name:
                _check_number(settings, name, trained)
            tokenizer: object = getattr(trained.vocabularies, side)
        else:
            tokenizer = trained.tokenizer
        if not isinstance(tokenizer, Tokenizer):
            raise UserError(f"{name} {place} has no vocabulary of SentencePiece: name another model, or leave it out")
        taken[name] = vocabulary_file(tokenizer, expanded(settings.data.cache_dir))
        whose = f"{side}'s vocabulary" if isinstance(trained, TrainedModel) else "vocabulary"
        print_note(f"{name} is the {whose} of {place}, {counted(tokenizer.vocab_size, 'token')}")
    return taken


def _check_number(settings: Namespace, name: str, trained: TrainedModel) -> None:
    """Raise UserError if the model has a vocabulary per language, and the run has one for both."""
    if settings.model.source_vocab_size is None and not trained.vocabularies.are_shared:
        raise UserError(
            f"{name} {settings.get(name)} has one vocabulary per language: give source_vocab_size, tokenizer and "
            "source_tokenizer"
        )


def as_arguments(settings: dict[str, Any]) -> list[str]:
    """Settings as arguments of the command line."""
    return [f"--{name}={'null' if value is None else value}" for name, value in settings.items()]


def resumed_checkpoint(settings: Namespace) -> Path | None:
    """Return the checkpoint that the settings resume from, or None if they begin a new run."""
    if settings.ckpt_path is None:
        return None
    if settings.ckpt_path not in SEARCHED:
        return find_checkpoint(settings.ckpt_path)
    found, _ = newest_readable_checkpoint(Path(settings.trainer.default_root_dir, settings.name or ""))
    return found.path if found else None


def _is_trained_model(place: str) -> bool:
    """Whether a place is a trained model and not a SentencePiece file."""
    path = expanded(place)
    # Opening a pipe would wait for a writer.
    return place.startswith(HUB_PREFIX) or path.is_dir() or (path.is_file() and zipfile.is_zipfile(path))
