"""The copy task: repeat a sequence of ten digits. A correct model learns it in seconds, a broken one never.

3 1 4 1 5 9 2 6 5 3     3 1 4 1 5 9 2 6 5 3

It asks for what translation is made of: positions, attention to the source, when to stop. As in the Annotated
Transformer, ten symbols out of ten are drawn with equal chances. The splits are fixed and share no sequence.
"""

from random import Random

from lit_transformer.errors import UserError

COPY_SPLITS = ("train", "valid", "test")

_NUM_PAIRS = {"train": 10_000, "valid": 200, "test": 500}
_SEED = 1
_LENGTH = 10


def copy_pairs(split: str) -> list[tuple[str, str]]:
    """The pairs of a split; both sides of a pair are the same."""
    if split not in COPY_SPLITS:
        raise UserError(f"the copy task has no split {split!r}: it has {', '.join(COPY_SPLITS)}")
    # Drawn without repetition for all splits at once, so that no sequence is in two of them.
    numbers = Random(_SEED).sample(range(10**_LENGTH), sum(_NUM_PAIRS.values()))
    begin = sum(_NUM_PAIRS[name] for name in COPY_SPLITS[: COPY_SPLITS.index(split)])
    sentences = (" ".join(f"{number:0{_LENGTH}}") for number in numbers[begin : begin + _NUM_PAIRS[split]])
    return [(sentence, sentence) for sentence in sentences]
