"""Names such as `states_BLD` end in the shape of a tensor, and each module has a legend of the letters that it uses."""

import ast
import re
import tokenize
from pathlib import Path

import pytest

LETTERS = {
    "B": "batch",
    "S": "source length",
    "T": "target length",
    "L": "query length",
    "M": "key length",
    "D": "d_model",
    "F": "d_ff",
    "H": "heads",
    "K": "head dimension",
    "V": "vocabulary",
    "N": "rows (batch x beams)",
    "W": "beams",
    "C": "candidates",
    "P": "target positions (batch x length)",
    "R": "rows of a chunk",
    "X": "any size",
}
"""One letter has one meaning in the project."""
IMAGE = {"C": "channels", "H": "height", "W": "width"}
"""Other meanings in modules that have images, which everybody writes as B x C x H x W."""
PACKAGE = Path(__file__).resolve().parents[1] / "lit_transformer"
MODULES = [path.relative_to(PACKAGE).as_posix() for path in sorted(PACKAGE.rglob("*.py"))]


def suffixes_used(path: Path) -> list[str]:
    """The shapes at the end of names."""
    with tokenize.open(path) as file:
        names = {token.string for token in tokenize.generate_tokens(file.readline) if token.type == tokenize.NAME}
    return [match.group(1) for name in names if (match := re.fullmatch(r"[a-z][a-z0-9_]*_([A-Z][A-Z0-9]*)", name))]


def legend(path: Path) -> dict[str, str]:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    sentence = re.search(r"\bLegend: (.*?)\.(?:\s|$)", docstring, re.DOTALL)
    if sentence is None:
        return {}
    return dict(entry.split(" ", maxsplit=1) for entry in " ".join(sentence.group(1).split()).split(", "))


@pytest.mark.parametrize("module", MODULES)
def test_the_legend_explains_the_letters_of_the_module_and_no_other(module: str) -> None:
    suffixes = suffixes_used(PACKAGE / module)
    letters = LETTERS | IMAGE if "BCHW" in suffixes else LETTERS
    # Digits stand for themselves.
    used = {letter for suffix in suffixes for letter in suffix if letter.isalpha()}
    assert legend(PACKAGE / module) == {letter: letters[letter] for letter in used}
