"""Folders of tables: local copies of data sets of the Hugging Face Hub, as Parquet, Arrow, JSON or CSV files.

File names tell the split. Data cards are never read: a card can name files elsewhere, and a few lines of YAML can
expand to gigabytes. A configuration that only the card defines cannot be loaded.

| layout | split |
|---|---|
| `SPLIT.parquet`, `SPLIT-00000-of-00002.parquet` | in the name |
| `SPLIT/0000.parquet`, `SPLIT/data-00000-of-00002.arrow` (`save_to_disk`) | the folder's name |

They may lie in a folder of the copy, such as `data`. A configuration is a folder of the copy that has its name.
"""

import glob
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset

from lit_transformer.data.text_folder import split_names
from lit_transformer.errors import UserError, innermost_reason

_READERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
}
"""The builder of `datasets` for each ending, and its arguments."""
_IN_THE_NAME = re.compile(r"(?!data-)(.+)-\d{5}-of-\d{5}(-\w+)?")
_IN_THE_FOLDER = re.compile(r"\d+|data-\d{5}-of-\d{5}")


def is_table_folder(folder: Path) -> bool:
    """Whether there are tables in a folder or below it."""
    return bool(_tables(folder))


def load_tables(folder: Path, *, configuration: str | None, split: str, cache_dir: Path) -> Dataset:
    """The rows of one split with all their columns.

    Args:
        folder: The copy.
        configuration: The folder in it to read; the whole copy when left out.
        split: Name of the split, as in `split_names`.
        cache_dir: Where `datasets` keeps what it computes.
    """
    place = folder if configuration is None else folder / configuration
    if not place.is_dir():
        raise UserError(
            f"{folder} has no configuration {configuration!r}: what follows the colon is a folder of the copy"
        )
    splits: dict[str, dict[tuple[Path, str], list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in _tables(place):
        name, home = _split_of(path)
        splits[name][home, path.suffix].append(path)
    found = next((splits[name] for name in split_names(split) if name in splits), None)
    if found is None:
        there = ", ".join(sorted(splits)) or "none"
        raise UserError(
            f"{place} has no split {split!r}: there are {there}; a file or its folder is named after its split, as in "
            f"{split}.jsonl or {split}/0000.parquet"
        )
    if len(found) > 1:
        kinds = ", ".join(sorted(f"{home.relative_to(place)}/*{suffix}" for home, suffix in found))
        raise UserError(
            f"{place} has the split {split!r} more than once ({kinds}): give a folder after a colon, or keep one kind"
        )
    [((_, suffix), paths)] = found.items()
    reader, options = _READERS[suffix]
    files = [glob.escape(str(path.absolute())) for path in paths]
    try:
        return datasets.load_dataset(
            reader, data_files=files, split="train", cache_dir=str(cache_dir / "hub"), **options
        )
    except Exception as error:  # `datasets` raises many kinds
        raise UserError(f"{place} cannot be read as a copy of a Hub data set: {innermost_reason(error)}") from error


def _tables(folder: Path) -> list[Path]:
    # `datasets` takes `a::b` for two places. Hidden folders hold what `hf download` and git leave.
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in _READERS
        and not any(part.startswith(".") or "::" in part for part in path.relative_to(folder).parts)
    ]


def _split_of(path: Path) -> tuple[str, Path]:
    """The split of a table, and the folder that its name counts in."""
    if _IN_THE_FOLDER.fullmatch(path.stem):
        return path.parent.name, path.parent.parent
    match = _IN_THE_NAME.fullmatch(path.stem)
    return match[1] if match else path.stem, path.parent
