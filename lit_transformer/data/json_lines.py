"""JSON files: one object per line (JSONL), or one array of objects. Each object is a row.

A row has a field for each language, or a field `translation` that holds them. A text is a string. `null` and a missing
field are empty sides.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lit_transformer.data.compression import open_text
from lit_transformer.data.text import BATCH_SIZE, PAIR_SCHEMA, MissingSplit
from lit_transformer.data.text_file import read_blocks, string_array
from lit_transformer.errors import UserError

_TYPES = {
    str: "a string",
    int: "a number",
    float: "a number",
    bool: "true or false",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def json_batches(path: Path, *, source: str, target: str) -> Iterator[pa.RecordBatch]:
    """Read two fields of all objects of a file.

    Args:
        path: The file, plain or compressed.
        source: Name of the source language's field.
        target: Name of the target language's field.

    Yields:
        Record batches in the columns of `PAIR_SCHEMA`.

    Raises:
        UserError: The file cannot be read, is no JSON, or has no such fields, or a text is no string.
    """
    with open_text(path) as file:
        is_array = file.read(1000).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    rows = _objects_of_array(path) if is_array else _objects_of_lines(path)
    languages = {"source": source, "target": target}
    names: set[str] = set()
    while True:
        sides: tuple[list[bytes], list[bytes]] = ([], [])
        for place, row in islice(rows, BATCH_SIZE):
            names.update(row)
            for side, language in zip(sides, languages.values(), strict=True):
                side.append(_text(row.get(language), place, language))
        if not sides[0]:
            return
        for argument, language in languages.items():
            if language not in names:
                raise MissingSplit(
                    f"{argument} is {language}, but the fields of {path} are {', '.join(sorted(names)) or 'none'}: "
                    "choose among these"
                )
        yield pa.record_batch(
            [string_array(b"".join(side), np.cumsum([*map(len, side)])) for side in sides], schema=PAIR_SCHEMA
        )


def _objects_of_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read JSONL.

    Yields:
        The place of each object, for error messages, and the fields of its languages.
    """
    for block in read_blocks(path):
        for number, line in enumerate(block.text.decode().removesuffix("\n").split("\n"), block.first_line):
            if line.strip():
                place = f"{path}:{number}"
                yield place, _fields(_parse(line, place), place)


def _objects_of_array(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read an array, which must fit into memory."""
    text = b"".join(block.text for block in read_blocks(path))
    for number, row in enumerate(_parse(text.decode(), str(path)), 1):
        place = f"{path}, object {number}"
        yield place, _fields(row, place)


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is not JSON ({error}): give one object per line, or one array of objects") from error


def _fields(row: Any, place: str) -> dict[str, Any]:
    if isinstance(row, dict):
        row = row.get("translation", row)
    if not isinstance(row, dict):
        raise UserError(
            f"{place}: {_TYPES[type(row)]} in place of an object with a field for each language; correct it"
        )
    return row


def _text(value: Any, place: str, language: str) -> bytes:
    """Return a text in UTF-8."""
    if value is None:
        return b""
    if not isinstance(value, str):
        raise UserError(f"{place}: {language} is {_TYPES[type(value)]}; write it as a string, in quotation marks")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        surrogate = f"\\u{ord(value[error.start]):04x}"
        raise UserError(f"{place}: {language} has {surrogate} without the other half; correct it") from error
