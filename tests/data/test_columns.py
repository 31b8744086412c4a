"""Both column layouts of the Hub give plain strings, which are validated when they are loaded."""

from typing import Any

import datasets
import pytest
from datasets import Dataset, Features, Translation, Value

from lit_transformer.data.columns import language_columns
from lit_transformer.errors import UserError

ROWS: list[dict[str, Any]] = [{"de": "Hallo", "en": "Hello"}, {"de": None, "en": "Nothing"}, {"de": "Ja", "en": "Yes"}]
STRUCT = Features({"translation": Translation(["de", "en"])})
COLUMNS = Features({"id": Value("int64"), "en": Value("large_string"), "de": Value("string")})


def rows(layout: str) -> Dataset:
    if layout == "struct":
        return Dataset.from_dict({"translation": ROWS}, features=STRUCT)
    return Dataset.from_list([{"id": 5, **row} for row in ROWS], features=COLUMNS)


@pytest.mark.parametrize("layout", ["struct", "columns"])
def test_both_layouts(layout: str) -> None:
    pairs = language_columns(rows(layout), "wmt", source="en", target="de").load()
    assert pairs.features == Features({"source": Value("string"), "target": Value("string")})
    assert pairs[:] == {"source": ["Hello", "Nothing", "Yes"], "target": ["Hallo", "", "Ja"]}
    with pytest.raises(UserError, match=r"target is fr, .*wmt.* de"):
        language_columns(rows(layout), "wmt", source="en", target="fr")
    if layout == "columns":
        with pytest.raises(UserError, match=r"source is id, .*wmt.* int64"):
            language_columns(rows(layout), "wmt", source="id", target="de")


@pytest.mark.parametrize("missing", [None, "Nothing"])
def test_text_is_validated_when_it_is_loaded(missing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every rank finds it at every start. Only the rank that prepares it reads it."""
    data = Dataset.from_list([{"de": "Hallo", "en": "Hello"}, {"de": missing, "en": "Nothing"}])
    language_columns(data, "wmt", source="en", target="de")
    validated: list[object] = []
    validate = datasets.table.Table.validate
    monkeypatch.setattr(
        datasets.table.Table, "validate", lambda *args, **options: validated.append(validate(*args, **options))
    )
    text = language_columns(data, "wmt", source="en", target="de")
    assert not validated
    assert text.load()["target"][:] == ["Hallo", missing or ""]
    assert len(validated) == 1
