"""The columns of a data set of the Hugging Face Hub, brought to those of every corpus.

The Hub has two layouts: a struct `translation` with one field per language, or one column per language.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, Features, Value

from lit_transformer.data.text import PAIR_SCHEMA, Text
from lit_transformer.errors import UserError, innermost_reason


def language_columns(dataset: Dataset, corpus: str, *, source: str, target: str) -> Text:
    """Take two languages out of a data set.

    Args:
        dataset: Rows in either layout.
        corpus: The corpus string, for error messages.
        source: Name of the source language's field or column.
        target: Name of the target language's.

    Raises:
        UserError: A language is missing or the data is damaged.
    """
    prefix = ""
    if "translation" in dataset.column_names:
        dataset, prefix = dataset.flatten(), "translation."
    languages = [
        name.removeprefix(prefix)
        for name, feature in dataset.features.items()
        if name.startswith(prefix) and getattr(feature, "dtype", "") in ("string", "large_string")
    ]
    for argument, language in (("source", source), ("target", target)):
        if language not in languages:
            raise UserError(
                f"{argument} is {language}, but the text columns of corpus {corpus} are "
                f"{', '.join(languages) or 'none'}: choose among these"
            )
    columns = {prefix + source: "source", prefix + target: "target"}
    with _damage_to_user_error(corpus):
        pairs = _plain_strings(dataset.select_columns(list(columns)).rename_columns(columns))

    def load() -> Dataset:
        with _damage_to_user_error(corpus):
            _validate(pairs.data)
        return pairs

    return Text(pairs._fingerprint, load)


def _validate(table: pa.Table) -> None:
    """Compare offsets with the data, because Arrow trusts a file's offsets and would read past its end.

    This reads everything, so it is done when the text is loaded and not when it is found.
    """
    table.validate(full=True)


@contextmanager
def _damage_to_user_error(corpus: str) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise UserError(f"corpus {corpus} is damaged ({innermost_reason(error)}): download or copy it again") from error


def _plain_strings(pairs: Dataset) -> Dataset:
    """Make every row a string. A null becomes an empty line, which preparation drops and counts."""
    table = pairs.data.table
    if table.schema.types == PAIR_SCHEMA.types and not any(column.null_count for column in table.columns):
        return pairs
    strings = Features({name: Value("string") for name in PAIR_SCHEMA.names})
    arrow = pairs.with_format("arrow").map(_fill_nulls, batched=True, features=strings, desc="Reading text")
    return arrow.with_format(None)


def _fill_nulls(table: pa.Table) -> pa.Table:
    _validate(table)
    return pa.table([pc.fill_null(column.cast(pa.string()), "") for column in table.columns], schema=PAIR_SCHEMA)
