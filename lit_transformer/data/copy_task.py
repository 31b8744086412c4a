"""The copy task: repeat a sequence of ten digits. A correct model learns it in seconds, and a broken one never does.

    3 1 4 1 5 9 2 6 5 3     3 1 4 1 5 9 2 6 5 3

It needs positions, attention to the source, and knowing when to stop. As in the Annotated Transformer, each of the ten
symbols is equally likely. The splits are fixed and share no sequence.
"""

from random import Random

from lit_transformer.errors import UserError

COPY_SPLITS = ("train", "valid", "test")

_NUM_PAIRS = {"train": 10_000, "valid": 200, "test": 500}
_SEED = 1
_LENGTH = 10


def copy_pairs(split: str) -> list[tuple[str, str]]:
    """Return the pairs of a split. Both sides of a pair are equal.

    Raises:
        UserError: There is no such split.
    """
    if split not in COPY_SPLITS:
        raise UserError(f"the copy task has no split {split!r}: it has {', '.join(COPY_SPLITS)}")
    # All splits are drawn at once without repetition, so that they share no sequence.
    numbers = Random(_SEED).sample(range(10**_LENGTH), sum(_NUM_PAIRS.values()))
    begin = sum(_NUM_PAIRS[name] for name in COPY_SPLITS[: COPY_SPLITS.index(split)])
    sentences = (" ".join(f"{number:0{_LENGTH}}") for number in numbers[begin : begin + _NUM_PAIRS[split]])
    return [(sentence, sentence) for sentence in sentences]
