"""Settings that the data take from the model, so that they are given once. Of the model it knows only these names.

The model is the trainer's `LightningModule`, of any kind.
"""

from typing import NamedTuple

from lit_transformer.batch import SEED, VOCAB_SIZE
from lit_transformer.data.vocabularies import Vocabularies


class Followed(NamedTuple):
    """The settings, each with the default that holds without a model."""

    vocab_size: int = VOCAB_SIZE
    source_vocab_size: int | None = None
    max_positions: int | None = None
    seed: int = SEED


def follow(model: object, **given: int | None) -> Followed:
    """Take what is given, or else what the model has, or else the default. The model may be None."""
    of_model = {name: getattr(model, name, None) for name in Followed._fields}
    values = {name: of_model[name] if given[name] is None else given[name] for name in Followed._fields}
    return Followed(**{name: value for name, value in values.items() if value is not None})


def model_vocabularies(model: object, settings: Followed) -> Vocabularies | None:
    """Return the vocabularies that the model was trained with, if it has some, and of these sizes."""
    found = getattr(model, "vocabularies", None)
    if not isinstance(found, Vocabularies):
        return None
    sizes = found.target.vocab_size, found.source_vocab_size
    return found if sizes == (settings.vocab_size, settings.source_vocab_size) else None
