"""JSON: strings are texts, null is an empty side, and everything else is a mistake with a line."""

import json
from pathlib import Path
from typing import Any

import pytest

from lit_transformer.data.json_lines import json_batches
from lit_transformer.errors import UserError

ROWS: list[dict[str, Any]] = [
    {"id": 1, "en": "2020-01-01", "de": "1e5"},
    {"en": 'a "b"\n\t\u2028 \U0001f600', "de": None},
    {"en": ""},
    {"de": "x", "id": [1]},
]
PAIRS = [("2020-01-01", "1e5"), ('a "b"\n\t\u2028 \U0001f600', ""), ("", ""), ("", "x")]


def read(path: Path) -> list[tuple[str, str]]:
    batches = json_batches(path, source="en", target="de")
    return [pair for batch in batches for pair in zip(*(column.to_pylist() for column in batch), strict=True)]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_lines_and_arrays(tmp_path: Path, nested: bool, ascii_only: bool) -> None:
    rows = [{"translation": row, "id": 5} for row in ROWS] if nested else ROWS
    lines = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    for name, text in (
        ("x.jsonl", "\n".join(lines)),
        ("x.jsonl", "\ufeff" + "\r\n\r\n".join(lines) + "\r\n"),
        ("x.json", "\n".join(lines) + "\n"),
        ("x.json", "\ufeff \n" + json.dumps(rows, ensure_ascii=ascii_only, indent=2)),
        ("x.json", f"[{','.join(lines)}]"),
    ):
        (tmp_path / name).write_bytes(text.encode())
        assert read(tmp_path / name) == PAIRS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"en": 5, "de": "b"}', "en is a number"),
        ('{"en": "a", "de": 1e5}', "de is a number"),
        ('{"en": true, "de": "b"}', "en is true or false"),
        ('{"en": ["a"], "de": "b"}', "en is an array"),
        ('{"en": "a\\ud800", "de": "b"}', r"en has \\ud800"),
        ('{"en": "a"', "JSON"),
        ("en,de", "JSON"),
        ('["a", "b"]', "an array"),
        ('{"translation": "a"}', "a string"),
        ("[" * 10**5, "JSON"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f'{{"en": "a", "de": "b"}}\n\n{line}\n')
    with pytest.raises(UserError, match=rf"x\.jsonl:3\b.*{message}") as error:
        read(path)
    assert "\n" not in str(error.value)
    if line.startswith('{"en"') and message != "JSON":
        path.write_text(f'[{{"en": "a", "de": "b"}},\n{line}]\n')
        with pytest.raises(UserError, match=rf"x\.jsonl, object 2: {message}"):
            read(path)


def test_languages_that_no_row_has(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"en": "a", "fr": "b"}\n')
    with pytest.raises(UserError, match=r"target is de, .*x\.jsonl are en, fr:"):
        read(tmp_path / "x.jsonl")
