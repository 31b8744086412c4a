"""Files that are not UTF-8: what they are, and a command that converts them."""

import gzip
import re
from pathlib import Path

import pytest

from lit_transformer.data.encodings import describe_invalid_utf8, describe_other_format

GERMAN = "Ein Hund läuft.\nÜber die Brücke - “schnell”.\n" * 3
RUSSIAN = "Собака бежит.\nПо мосту.\n" * 3
CHINESE = "一只狗在跑。\n在桥上。\n" * 3


@pytest.mark.parametrize("text", [GERMAN, RUSSIAN, CHINESE, "a\nb\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_the_named_encoding_reads_the_text(encoding: str, mark: str, text: str) -> None:
    """Also if the bytes are valid UTF-8, as those of Russian in UTF-16 without a mark are."""
    data = (mark + text).encode(encoding)
    message = describe_other_format(Path("my text.en"), data)
    assert message is not None
    found = re.search(r"`iconv -f (\S+) -t UTF-8 'my text\.en' > NEW`", message)
    assert found is not None
    assert data.decode(found[1]).removeprefix("\ufeff") == text


@pytest.mark.parametrize("text", [GERMAN, RUSSIAN, CHINESE, "a\x00b\x00c\n", "\n\n", "", "no line end", "Ċ Ġ \u0a0a\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_utf8_is_no_other_format(mark: str, text: str) -> None:
    assert describe_other_format(Path("text.en"), (mark + text).encode()) is None


def test_a_compressed_file_without_its_suffix() -> None:
    message = describe_other_format(Path("a/train.en"), gzip.compress(b"a\n"))
    assert message is not None
    assert "train.en.gz" in message


def test_another_encoding_and_damage_have_other_remedies() -> None:
    data = GERMAN.encode("cp1252")
    message = describe_invalid_utf8(Path("train.de"), 1, data, data.index(b"\xe4"))
    found = re.search(r"train\.de:1: .*0xe4.*`iconv -f (\S+) -t UTF-8 train\.de > NEW`", message)
    assert found is not None
    assert data.decode(found[1]) == GERMAN
    damaged = GERMAN.encode() + b"\xe4\n"
    message = describe_invalid_utf8(Path("train.de"), 7, damaged, len(damaged) - 2)
    assert re.search(r"train\.de:7: .*0xe4", message)
    assert "iconv" not in message
