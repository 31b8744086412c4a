"""The corpora that lit_transformer generates: `demo`, `demo:PAIRS` and `copy`."""

import hashlib
from pathlib import Path

import pyarrow as pa

from lit_transformer.data.copy_task import COPY_SPLITS, copy_pairs
from lit_transformer.data.demo.corpus import DEMO_SPLITS, demo_pairs
from lit_transformer.data.text import PAIR_SCHEMA, Text, cached_text, split_names
from lit_transformer.errors import UserError


def is_built_in(corpus: str) -> bool:
    """Whether a corpus string names a generated corpus. A folder of the same name is written `./demo`."""
    return corpus.partition(":")[0] in ("demo", "copy")


def find_built_in(corpus: str, *, split: str, source: str, target: str, cache_dir: Path) -> Text:
    """Generate one split of a built-in corpus.

    Raises:
        UserError: The corpus has no such split, size or languages.
    """
    name, colon, number = corpus.partition(":")
    if name == "copy" and colon:
        raise UserError(f"corpus {corpus}: the copy task has one size; leave out `:{number}`")
    known = DEMO_SPLITS if name == "demo" else COPY_SPLITS
    split = next((alias for alias in split_names(split) if alias in known), split)
    if name == "copy":
        pairs = copy_pairs(split)
    else:
        if colon and not (number.isdecimal() and int(number) > 0):
            raise UserError(f"corpus {corpus}: give a number of training pairs after the colon, as in demo:50000")
        pairs = _demo_texts(split, int(number) if colon and split == "train" else None, source, target)
    sources, targets = ([pair[side] for pair in pairs] for side in (0, 1))
    digest = hashlib.blake2b("\n".join(["", *sources, "", *targets]).encode(), digest_size=16)
    batch = pa.record_batch([sources, targets], schema=PAIR_SCHEMA)
    return cached_text(cache_dir / "built_in" / f"{digest.hexdigest()}.arrow", lambda: [batch])


def _demo_texts(split: str, num_pairs: int | None, source: str, target: str) -> list[tuple[str, str]]:
    if {source, target} != {"en", "de"}:
        raise UserError(
            f"the demo corpus is English-German: source and target are {source} and {target}; "
            "give en and de, in either order"
        )
    pairs = demo_pairs(split, num_pairs=num_pairs)
    return [(pair.english, pair.german) if source == "en" else (pair.german, pair.english) for pair in pairs]
