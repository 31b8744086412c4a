"""The corpora that lit_transformer generates: `demo`, `demo:PAIRS` and `copy`."""

import hashlib
from functools import cache
from pathlib import Path

import pyarrow as pa

from lit_transformer.data.cache import cached_file
from lit_transformer.data.copy_task import COPY_SPLITS, copy_pairs
from lit_transformer.data.demo.corpus import DEMO_SPLITS, demo_pairs
from lit_transformer.data.text import PAIR_SCHEMA, Text, cached_text, split_names
from lit_transformer.errors import UserError


def is_built_in(corpus: str) -> bool:
    """Whether a corpus string names a generated corpus. A folder of the same name is written `./demo`."""
    return corpus.partition(":")[0] in ("demo", "copy")


def find_built_in(corpus: str, *, split: str, source: str, target: str, cache_dir: Path) -> Text:
    """Find one split of a built-in corpus. It is generated for the first time only, because that takes seconds.

    Raises:
        UserError: The corpus has no such split, size or languages, or the cache cannot be written.
    """
    name, colon, number = corpus.partition(":")
    if name == "copy" and colon:
        raise UserError(f"corpus {corpus}: the copy task has one size; leave out `:{number}`")
    known = DEMO_SPLITS if name == "demo" else COPY_SPLITS
    split = next((alias for alias in split_names(split) if alias in known), split)
    if name == "demo" and colon and not (number.isdecimal() and int(number) > 0):
        raise UserError(f"corpus {corpus}: give a number of training pairs after the colon, as in demo:50000")

    def generate() -> pa.RecordBatch:
        if name == "copy":
            pairs = copy_pairs(split)
        else:
            pairs = _demo_texts(split, int(number) if colon and split == "train" else None, source, target)
        return pa.record_batch([[pair[side] for pair in pairs] for side in (0, 1)], schema=PAIR_SCHEMA)

    folder = cache_dir / "built_in"

    def write_fingerprint(unfinished: Path) -> None:
        batch = generate()
        sources, targets = (column.to_pylist() for column in batch)
        digest = hashlib.blake2b("\n".join(["", *sources, "", *targets]).encode(), digest_size=16).hexdigest()
        cached_text(folder / f"{digest}.arrow", lambda: [batch]).load()
        unfinished.write_text(digest, encoding="ascii")

    request = hashlib.blake2b(repr((corpus, split, source, target, _code_version())).encode(), digest_size=16)
    fingerprint = cached_file(folder / f"{request.hexdigest()}.txt", write_fingerprint).read_text(encoding="ascii")
    return cached_text(folder / f"{fingerprint}.arrow", lambda: [generate()])


@cache
def _code_version() -> str:
    """A hash of the code that generates the corpora."""
    folder = Path(__file__).parent
    files = [folder / "copy_task.py", *sorted((folder / "demo").glob("*.py"))]
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=16).hexdigest()


def _demo_texts(split: str, num_pairs: int | None, source: str, target: str) -> list[tuple[str, str]]:
    if {source, target} != {"en", "de"}:
        raise UserError(
            f"the demo corpus is English-German: source and target are {source} and {target}; "
            "give en and de, in either order"
        )
    pairs = demo_pairs(split, num_pairs=num_pairs)
    return [(pair.english, pair.german) if source == "en" else (pair.german, pair.english) for pair in pairs]
