"""Folders of tables: copies of Hugging Face Hub data sets on this disk, as Parquet, Arrow, JSON or CSV files.

File names give the split. A data card is never read: it can name files elsewhere, and a few lines of YAML can expand to
gigabytes. A configuration that only the card defines cannot be loaded.

| layout | split |
|---|---|
| `SPLIT.parquet`, `SPLIT-00000-of-00002.parquet` | in the file name |
| `SPLIT/0000.parquet`, `SPLIT/data-00000-of-00002.arrow` (`save_to_disk`) | the name of the folder |

The files may lie in a folder of the copy, such as `data`. A configuration is a folder of the copy with its name.
"""

import re
from collections import defaultdict
from pathlib import Path

from lit_transformer.data.tables import find_tables, table_suffix
from lit_transformer.data.text import MissingSplit, Text, split_names
from lit_transformer.errors import UserError

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
        cache_dir: Folder of the cache.

    Raises:
        UserError: There is no such configuration or split, or a file cannot be read.
    """
    paths = files_of_split(folder, configuration, split)
    return find_tables(paths, source=source, target=target, cache_dir=cache_dir)


def files_of_split(folder: Path, configuration: str | None, split: str) -> list[Path]:
    """Return the tables of a split of a copy: of one format, in one folder.

    Raises:
        UserError: There is no such configuration or split, or it is there more than once.
    """
    place = folder if configuration is None else folder / configuration
    if not place.is_dir():
        raise UserError(
            f"{folder} has no configuration {configuration!r}: the name after the colon is that of a folder of the copy"
        )
    splits: dict[str, dict[tuple[Path, str], list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in _tables(place):
        name, home, suffix = _split_of(path)
        splits[name][home, suffix].append(path)
    found = next((splits[name] for name in split_names(split) if name in splits), None)
    if found is None:
        raise MissingSplit(
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
    """Return the tables in a folder and below it, but not in hidden folders, which `hf download` and git leave."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if table_suffix(path.name) and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]


def _split_of(path: Path) -> tuple[str, Path, str]:
    """Return the split of a table, the folder whose files share its naming, and the suffix."""
    suffix = table_suffix(path.name) or ""
    stem = path.name.removesuffix(suffix)
    if _IN_THE_FOLDER.fullmatch(stem):
        return path.parent.name, path.parent.parent, suffix
    match = _IN_THE_NAME.fullmatch(stem)
    return match[1] if match else stem, path.parent, suffix
