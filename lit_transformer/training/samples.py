"""Samples of validation: a few sentences as the model translates them, for people to read."""

from collections.abc import Iterable
from typing import NamedTuple

NUM_SAMPLES = 4


class Sample(NamedTuple):
    """A validation sentence as the model translates it; samples are sorted as in the validation set."""

    row: int
    """Where the sentence stands in the validation set."""
    source: str
    translation: str
    reference: str


def first_samples(samples: Iterable[Sample]) -> list[Sample]:
    """The samples to show: the first of the validation set, whichever batches and ranks they were in."""
    return sorted(samples)[:NUM_SAMPLES]
