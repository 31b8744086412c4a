"""The columns of tables with types, brought to those of every corpus.

There are two layouts: a struct `translation` with one field per language, or one column per language.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value

from lit_transformer.data.text import LINE_SCHEMA, PAIR_SCHEMA, MissingSplit, Text
from lit_transformer.errors import UserError, innermost_reason


def language_columns(dataset: Dataset, corpus: str, *, source: str, target: str) -> Text:
    """Take two languages out of a data set of the Hub.

    Args:
        dataset: Rows in either layout.
        corpus: The corpus string, for error messages.
        source: Name of the source language's field or column.
        target: Name of the target language's.

    Raises:
        UserError: A language is missing or the data is damaged.
    """
    prefix = check_languages(dataset.data.schema, f"corpus {corpus}", source=source, target=target)
    if prefix:
        dataset = dataset.flatten()
    return _chosen(dataset, corpus, {prefix + source: "source", prefix + target: "target"}, PAIR_SCHEMA)


def text_column(dataset: Dataset, corpus: str, *, language: str) -> Text:
    """Take one language out of a data set of the Hub: its field or column, or else the column `text`.

    Args:
        dataset: Rows in any layout.
        corpus: The corpus string, for error messages.
        language: Name of the language's field or column.

    Raises:
        UserError: There is no such column or the data is damaged.
    """
    place, schema = f"corpus {corpus}", dataset.data.schema
    try:
        prefix, name = check_languages(schema, place, source=language, target=language), language
    except MissingSplit:
        prefix, name = "", "text"
        if "text" not in schema.names:
            raise
        check_languages(schema, place, source=name, target=name)
    return _chosen(dataset.flatten() if prefix else dataset, corpus, {prefix + name: "text"}, LINE_SCHEMA)


def _chosen(dataset: Dataset, corpus: str, columns: dict[str, str], schema: pa.Schema) -> Text:
    """Take columns out of a data set, by their names there and in the schema."""
    with damage_to_user_error(f"corpus {corpus}"):
        rows = _plain_strings(dataset.select_columns(list(columns)).rename_columns(columns), schema)

    def load() -> Dataset:
        with damage_to_user_error(f"corpus {corpus}"):
            _validate(rows.data)
        return rows

    return Text(rows._fingerprint, load)


def check_languages(schema: pa.Schema, place: str, *, source: str, target: str) -> str:
    """Find the columns of two languages.

    Args:
        schema: Columns in either layout.
        place: What holds the columns, for error messages.
        source: Name of the source language's field or column.
        target: Name of the target language's.

    Returns:
        What stands before the languages in the names of the flattened columns: `translation.` or nothing.

    Raises:
        UserError: A language has no column, or its column is not text.
    """
    prefix = ""
    types = dict(zip(schema.names, schema.types, strict=True))
    if pa.types.is_struct(types.get("translation", pa.null())):
        prefix, types = "translation.", {field.name: field.type for field in types["translation"]}
    for argument, language in (("source", source), ("target", target)):
        if language not in types:
            texts = [name for name, column_type in types.items() if _is_text(column_type)]
            raise MissingSplit(
                f"{argument} is {language}, but the text columns of {place} are {', '.join(texts) or 'none'}: "
                "choose among these"
            )
        if not _is_text(types[language]):
            raise MissingSplit(
                f"{argument} is {language}, but column {language} of {place} holds {types[language]} and no text: "
                "write it as strings, or choose another column"
            )
    return prefix


def _is_text(column_type: pa.DataType) -> bool:
    value_type = column_type.value_type if pa.types.is_dictionary(column_type) else column_type
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(value_type) for test in tests)


@contextmanager
def damage_to_user_error(place: str) -> Iterator[None]:
    """Turn an error of Arrow into a `UserError` that names what is damaged."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{place} is damaged ({innermost_reason(error)}): download or copy it again") from error


def _plain_strings(pairs: Dataset, schema: pa.Schema) -> Dataset:
    """Make every row a string."""
    table = pairs.data.table
    if table.schema.types == schema.types and not any(column.null_count for column in table.columns):
        return pairs
    strings = Features({name: Value("string") for name in schema.names})
    plain = partial(plain_table, schema=schema)
    arrow = pairs.with_format("arrow").map(plain, batched=True, features=strings, desc="Reading text")
    return arrow.with_format(None)


def plain_table(table: pa.Table, schema: pa.Schema = PAIR_SCHEMA) -> pa.Table:
    """Make every row of each column a string, and name the columns as in the schema.

    A null becomes an empty line, which preparation drops and counts.

    Raises:
        pyarrow.ArrowInvalid: The data is damaged.
    """
    _validate(table)
    return pa.table([pc.fill_null(column.cast(pa.string()), "") for column in table.columns], schema=schema)


def _validate(table: pa.Table) -> None:
    """Compare offsets with the data, because Arrow trusts a file's offsets and would read past its end.

    This reads everything, so it is done when the text is loaded and not when it is found.
    """
    table.validate(full=True)
