"""Signatures that are read from source text."""

from pathlib import Path

from lit_transformer.cli.signatures import Argument, read_signature

SOURCE = '''
from typing import Literal
from lit_transformer.data import CACHE_DIR

Color = Literal["red", "green"]
RED: Color = "red"


class Plain:
    """What it is,
    in a sentence.

    More.

    Args:
        color: One line
            and another: with a colon.
        folder: A place.

    Raises:
        ValueError: If it is blue.
    """

    def __init__(self, needed: int, color: Color | None = RED, *, folder: str = CACHE_DIR, more: int = -1) -> None: ...


class Fields:
    """A dataclass.

    Args:
        size: Its size.
    """

    size: int = 7
    needed: float
'''


def test_constructors_and_fields(tmp_path: Path) -> None:
    (tmp_path / "source.py").write_text(SOURCE)
    plain = read_signature(tmp_path / "source.py", "Plain")
    assert plain.summary == "What it is, in a sentence."
    assert plain.arguments == [
        Argument("color", "Literal['red', 'green'] | None", "'red'", "One line and another: with a colon."),
        Argument("folder", "str", "'~/.cache/lit_transformer'", "A place."),
        Argument("more", "int", "-1", ""),
    ]
    assert read_signature(tmp_path / "source.py", "Fields").arguments == [Argument("size", "int", "7", "Its size.")]
