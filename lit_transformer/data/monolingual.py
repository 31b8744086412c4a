"""Text of one language: one side of any parallel corpus, a folder, a text file, a table, or a data set of the Hub.

The corpus strings are those of `find_text`. This module knows nothing about tokens.
"""

from pathlib import Path

from datasets import Dataset

from lit_transformer.data.built_in import find_built_in, is_built_in
from lit_transformer.data.columns import text_column
from lit_transformer.data.compression import uncompressed
from lit_transformer.data.hub import load_split
from lit_transformer.data.places import find_places
from lit_transformer.data.table_folder import files_of_split, is_table_folder
from lit_transformer.data.tables import find_tables, table_suffix
from lit_transformer.data.text import LINE_SCHEMA, MissingSplit, Text
from lit_transformer.data.text_file import read_blocks
from lit_transformer.data.text_folder import find_line_file, find_line_folder
from lit_transformer.errors import UserError
from lit_transformer.files import expanded

_COLUMN = "text"
"""The column that is read if none has the name of the language."""
_SEPARATORS = {".tsv": "\t", ".csv": ","}


def find_lines(corpus: str, *, split: str, language: str, cache_dir: Path) -> Text:
    """Find the lines of one split, in the order of the corpus.

    Args:
        corpus: As in `find_text`. A single text file is read whole.
        split: Name of the split, as in `find_text`.
        language: Code of the language, as in the file or column names. A table without such a column is read in its
            column `text`.
        cache_dir: Folder for what is computed from the corpus.

    Raises:
        UserError: There is no such corpus, split or language, or it cannot be read.
    """
    cache_dir = expanded(cache_dir)
    if is_built_in(corpus):
        return _find_built_in(corpus, split, language, cache_dir)
    places, configuration = find_places(corpus, source=language, target=language)
    if not places:
        return text_column(load_split(corpus, split=split), corpus, language=language)
    place = places[0] if len(set(places)) == 1 else _file_of_language(corpus, places, language)
    if place.is_file():
        if table_suffix(place.name) is None:
            return find_line_file(place, cache_dir=cache_dir)
        return _find_column([place], language, cache_dir)
    try:
        return find_line_folder(place, split=split, language=language, cache_dir=cache_dir)
    except MissingSplit:
        if not is_table_folder(place):
            raise
    return _find_column(files_of_split(place, configuration, split), language, cache_dir)


def _find_built_in(corpus: str, split: str, language: str, cache_dir: Path) -> Text:
    if corpus.startswith("demo") and language not in ("en", "de"):
        raise UserError(f"language is {language}, but the demo corpus is English and German: give en or de")
    other = "de" if language == "en" else "en"
    return _side(find_built_in(corpus, split=split, source=language, target=other, cache_dir=cache_dir))


def _file_of_language(corpus: str, paths: list[Path], language: str) -> Path:
    for path in paths:
        if uncompressed(path.name).rpartition(".")[2] == language:
            return path
    raise UserError(f"corpus {corpus} is a pair of files, and no name ends with .{language}: give one of them")


def _find_column(paths: list[Path], language: str, cache_dir: Path) -> Text:
    """Find one column of tables. It is known when the text is loaded, and depends on the content alone."""

    def column(name: str) -> Text:
        return find_tables(paths, source=name, target=name, cache_dir=cache_dir)

    def load() -> Dataset:
        suffix = Path(uncompressed(paths[0].name)).suffix
        if suffix in _SEPARATORS:
            return column(_named_column(paths[0], _SEPARATORS[suffix], language)).load()
        try:
            return column(language).load()
        except MissingSplit as error:
            try:
                return column(_COLUMN).load()
            except MissingSplit:
                message = str(error).replace("source is", "language is", 1)
                raise MissingSplit(f"{message} (a column `{_COLUMN}` is read for every language)") from error

    return _side(Text(column(language).fingerprint, load))


def _named_column(path: Path, separator: str, language: str) -> str:
    """Return the name of the column of a TSV or CSV file. Without a header, no column could be told from others."""
    first, _, _ = next(read_blocks(path)).text.partition(b"\n")
    names = [name.strip('"') for name in first.decode().split(separator)]
    for name in (language, _COLUMN):
        if name in names:
            return name
    shown = ", ".join(name[:40] for name in names)
    raise MissingSplit(
        f"{path}:1: no column has the name {language} or {_COLUMN} ({shown}): put a header before the first line, or "
        "choose another language"
    )


def _side(pairs: Text) -> Text:
    """Return the source side of a text of two languages."""
    [name] = LINE_SCHEMA.names
    return Text(
        f"{pairs.fingerprint}-{name}", lambda: pairs.load().select_columns(["source"]).rename_column("source", name)
    )
