"""Folders of tables: copies of Hugging Face Hub data sets on this disk, as Parquet, Arrow, JSON or CSV files.

File names give the split. A data card is never read: it can name files elsewhere, and a few lines of YAML can expand to
gigabytes. A configuration that only the card defines cannot be loaded.

| layout | split |
|---|---|
| `SPLIT.parquet`, `SPLIT-00000-of-00002.parquet` | in the file name |
| `SPLIT/0000.parquet`, `SPLIT/data-00000-of-00002.arrow` (`save_to_disk`) | the name of the folder |

The files may lie in a folder of the copy, such as `data`. A configuration is a folder of the copy with its name.
"""

import glob
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets

from lit_transformer.data.columns import language_columns
from lit_transformer.data.text import Text, split_names
from lit_transformer.errors import UserError, innermost_reason

_READERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    ".parquet": ("parquet", {}),
    ".arrow": ("arrow", {}),
    ".jsonl": ("json", {}),
    ".json": ("json", {}),
    ".csv": ("csv", {}),
    ".tsv": ("csv", {"sep": "\t"}),
}
"""The builder of `datasets` for each suffix, and its arguments."""
_IN_THE_NAME = re.compile(r"(?!data-)(.+)-\d{5}-of-\d{5}(-\w+)?")
_IN_THE_FOLDER = re.compile(r"\d+|data-\d{5}-of-\d{5}")


def is_table_folder(folder: Path) -> bool:
    """Whether a folder or one below it holds tables."""
    return bool(_tables(folder))


def find_table_folder(
    folder: Path, configuration: str | None, *, split: str, source: str, target: str, cache_dir: Path
) -> Text:
    """Read one split of a copy.

    Args:
        folder: The copy.
        configuration: The folder in it to read. None reads the whole copy.
        split: Name of the split.
        source: Name of the source language's field or column.
        target: Name of the target language's.
        cache_dir: Where `datasets` keeps what it computes.

    Raises:
        UserError: There is no such configuration, split or language, or the files cannot be read.
    """
    place = folder if configuration is None else folder / configuration
    if not place.is_dir():
        raise UserError(
            f"{folder} has no configuration {configuration!r}: the name after the colon is that of a folder of the copy"
        )
    paths = _files_of_split(place, split)
    reader, options = _READERS[paths[0].suffix]
    try:
        rows = datasets.load_dataset(
            reader,
            data_files=[glob.escape(str(path.absolute())) for path in paths],
            split="train",
            cache_dir=str(cache_dir / "hub"),
            **options,
        )
    except Exception as error:  # `datasets` raises many kinds
        raise UserError(f"{place} cannot be read as a copy of a Hub data set: {innermost_reason(error)}") from error
    return language_columns(rows, str(folder), source=source, target=target)


def _files_of_split(place: Path, split: str) -> list[Path]:
    """Return the tables of a split: of one format, in one folder."""
    splits: dict[str, dict[tuple[Path, str], list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in _tables(place):
        name, home = _split_of(path)
        splits[name][home, path.suffix].append(path)
    found = next((splits[name] for name in split_names(split) if name in splits), None)
    if found is None:
        raise UserError(
            f"{place} has no split {split!r}: it has {', '.join(sorted(splits)) or 'none'}; name a file or its folder "
            f"after the split, as in {split}.jsonl or {split}/0000.parquet"
        )
    if len(found) > 1:
        kinds = ", ".join(sorted(f"{home.relative_to(place)}/*{suffix}" for home, suffix in found))
        raise UserError(
            f"{place} has the split {split!r} more than once ({kinds}): give a folder after a colon, or keep one format"
        )
    [paths] = found.values()
    return paths


def _tables(folder: Path) -> list[Path]:
    # `datasets` reads `a::b` as two places. `hf download` and git leave files in hidden folders.
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in _READERS
        and not any(part.startswith(".") or "::" in part for part in path.relative_to(folder).parts)
    ]


def _split_of(path: Path) -> tuple[str, Path]:
    """Return the split of a table, and the folder whose files share its naming."""
    if _IN_THE_FOLDER.fullmatch(path.stem):
        return path.parent.name, path.parent.parent
    match = _IN_THE_NAME.fullmatch(path.stem)
    return match[1] if match else path.stem, path.parent
