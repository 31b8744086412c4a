"""Comparison of trained models."""

import torch

from lit_transformer import Translator
from lit_transformer.checkpoints.format import vocabulary_entries
from lit_transformer.checkpoints.trained_model import TrainedModel


def same_model(mine: TrainedModel | Translator, other: TrainedModel | Translator) -> bool:
    """Whether the weights are equal bit for bit and everything else is equal."""
    weights, others = mine.transformer.state_dict(), other.transformer.state_dict()
    return (
        weights.keys() == others.keys()
        and all(torch.equal(weights[name].view(torch.int32), others[name].view(torch.int32)) for name in weights)
        and mine.transformer.config == other.transformer.config
        and vocabulary_entries(mine.vocabularies) == vocabulary_entries(other.vocabularies)
        and (mine.source, mine.target, mine.step) == (other.source, other.target, other.step)
    )
