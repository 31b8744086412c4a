"""TSV and CSV files. What a field holds is text, whatever it looks like: `NA`, `007`, `1e5`.

TSV is split at line feeds and tabs and nowhere else: a quotation mark is a character like others. CSV follows RFC 4180:
a field may stand in quotation marks, and may then hold commas, line feeds, and quotation marks, which are doubled. What
the RFC leaves open is an error.

A first row that has both languages is a header. Without a header, the first of two columns is the source.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lit_transformer.batch import IntArray
from lit_transformer.data.text import PAIR_SCHEMA, MissingSplit
from lit_transformer.data.text_file import LF, Block, read_blocks, string_array
from lit_transformer.errors import UserError
from lit_transformer.notes import print_note

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_REMEDIES = {
    "\t": "put one tab between the columns and none inside a text",
    ",": "put one comma between the columns, and a text with a comma in quotation marks",
}
_QUOTE = ord('"')
_LONGEST_FIELD_BYTES = 2**24
_COLUMN_NAME = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z]+)?|source|target", re.IGNORECASE)
"""What stands in a header: the code of a language, or the name of a side."""


def delimited_batches(path: Path, *, separator: str, source: str, target: str) -> Iterator[pa.RecordBatch]:
    """Read two columns of a file.

    Args:
        path: The file, plain or compressed.
        separator: A tab for TSV, a comma for CSV.
        source: Name of the source column.
        target: Name of the target column.

    Yields:
        Record batches in the columns of `PAIR_SCHEMA`.

    Raises:
        UserError: The file cannot be read, has no such columns, or is not in the format.
    """
    columns: list[int] = []
    num_columns = num_quoted = 0
    for block in read_blocks(path) if separator == "\t" else _blocks_of_rows(path):
        fields, row_ends, row_sizes = _split(block, separator)
        first_field = 0
        if not columns:
            num_columns = int(row_sizes[0])
            columns = _find_header(fields[:num_columns].to_pylist(), path, separator, source, target)
            first_field = num_columns if columns else 0
            columns = columns or [0, 1]
        uneven = np.flatnonzero(row_sizes != num_columns)
        if uneven.size:
            row = int(uneven[0])
            begin = int(row_ends[row - 1]) + 1 if row else 0
            found = f"the first row has {num_columns} fields, and this one has {row_sizes[row]}"
            remedy = "remove the empty line" if begin == row_ends[row] else _REMEDIES[separator]
            raise UserError(f"{path}:{block.line_of(begin)}: {found}; {remedy}")
        pair = [fields.take(pa.array(np.arange(first_field + column, len(fields), num_columns))) for column in columns]
        if separator == "\t" and b'""' in block.text:
            num_quoted += sum(pc.sum(pc.match_substring_regex(texts, '^".*"".*"$')).as_py() or 0 for texts in pair)
        yield pa.record_batch(pair, schema=PAIR_SCHEMA)
    if num_quoted:
        print_note(
            f"{num_quoted:,} texts of {path} stand in quotation marks and have doubled ones inside. TSV has no "
            "quoting, so these marks are text. If a program added them, write the file again without quoting, or as CSV"
        )


def _blocks_of_rows(path: Path) -> Iterator[Block]:
    """Read a CSV file in blocks of whole rows. A row may go over several lines."""
    rest = b""
    for lines in read_blocks(path):
        block = Block(rest + lines.text, lines.first_line - rest.count(b"\n"))
        end = _end_of_rows(block, path)
        if end:
            yield Block(block.text[:end], block.first_line)
        rest = block.text[end:]
        if len(rest) > _LONGEST_FIELD_BYTES:
            break
    if rest:
        line = block.line_of(end)
        raise UserError(
            f"{path}:{line}: this row has a field that begins with a quotation mark and never ends with one; correct "
            "the line, or use tabs instead of commas and the suffix .tsv"
        )


def _end_of_rows(block: Block, path: Path) -> int:
    """Return where the last whole row ends, which is 0 if there is none, and check the quotation marks before it."""
    text = np.frombuffer(block.text, np.uint8)
    quotes = np.flatnonzero(text == _QUOTE)
    # By turns, a quotation mark opens and closes. A doubled one closes and opens again. A block ends with a line feed,
    # which also stands before its beginning.
    opening, closing = quotes[::2], quotes[1::2]
    neighbors = (ord(","), LF, _QUOTE)
    wrong = [opening[~np.isin(text[opening - 1], neighbors)], closing[~np.isin(text[closing + 1], neighbors)]]
    if wrong[0].size or wrong[1].size:
        line = block.line_of(int(np.concatenate(wrong).min()))
        raise UserError(
            f'{path}:{line}: a quotation mark inside a field: CSV needs "..." around such a field, and "" for each '
            "quotation mark in it; correct the line, or use tabs instead of commas and the suffix .tsv"
        )
    if len(quotes) % 2 == 0:
        return len(text)
    line_ends = np.flatnonzero(text[: quotes[-1]] == LF)
    row_ends = line_ends[np.searchsorted(quotes, line_ends) % 2 == 0]
    return int(row_ends[-1]) + 1 if row_ends.size else 0


def _split(block: Block, separator: str) -> tuple[pa.StringArray, IntArray, IntArray]:
    """Split whole rows into fields.

    Returns:
        The fields of all rows, row by row, where each row ends in the block, and how many fields it has.
    """
    text = np.frombuffer(block.text, np.uint8)
    ends = np.flatnonzero((text == ord(separator)) | (text == LF))
    is_content = np.ones(len(text), bool)
    if separator == ",":
        quotes = np.flatnonzero(text == _QUOTE)
        ends = ends[np.searchsorted(quotes, ends) % 2 == 0]
        opening = quotes[::2]
        is_content[quotes] = False
        is_content[opening[text[opening - 1] == _QUOTE]] = True  # the second of two
    is_content[ends] = False
    fields = string_array(text[is_content].tobytes(), ends - np.searchsorted(np.flatnonzero(~is_content), ends))
    last_fields = np.flatnonzero(text[ends] == LF)
    return fields, ends[last_fields], np.diff(last_fields, prepend=-1)


def _find_header(row: list[str], path: Path, separator: str, source: str, target: str) -> list[int]:
    """Return the columns of the two languages, or nothing if the first row is a pair."""
    for name in (source, target):
        if row.count(name) > 1:
            raise UserError(f"{path}:1: {row.count(name)} columns have the name {name}; rename or remove all but one")
    if {source, target} <= set(row):
        return [row.index(source), row.index(target)]
    _check_separator(row, path, separator, source, target)
    if source in row or target in row or all(map(_COLUMN_NAME.fullmatch, row)):
        argument, missing = ("target", target) if source in row else ("source", source)
        raise MissingSplit(
            f"{argument} is {missing}, but the columns of {path} are {', '.join(row)}: choose among these, or put a "
            f"header with {source} and {target} before its first line"
        )
    fields = [field if len(field) <= 40 else f"{field[:40]}..." for field in row]
    if len(row) != 2:
        raise UserError(
            f"{path}:1: no header with {source} and {target}, and {len(row)} columns instead of two "
            f"({', '.join(fields)}); correct the header, or keep two columns"
        )
    print_note(
        f"{path} has no header with {source} and {target}: its first column is taken as {source}, its second as "
        f"{target}, and its first line as a pair ({' / '.join(fields)})"
    )
    return []


def _check_separator(row: list[str], path: Path, separator: str, source: str, target: str) -> None:
    """Raise UserError if the first row has a header or columns in another notation."""
    for other, name in _SEPARATORS.items():
        cells = separator.join(row).split(other)
        if not ({source, target} <= {cell.strip('" ') for cell in cells} or len(row) == 1 < len(cells)):
            continue
        if other == separator:
            raise UserError(f"{path}:1: the header has quotation marks or spaces around its names; remove them")
        raise UserError(
            f"{path}:1: {name} separate the columns; write the file again with {_SEPARATORS[separator]} between them"
        )
