"""Files that are not UTF-8: which encoding they are in, and how to convert them."""

import shlex
from codecs import BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from pathlib import Path

import numpy as np

_MARKS = {  # the marks of UTF-32 first, because that of UTF-32LE begins with that of UTF-16LE
    BOM_UTF32_LE: "UTF-32LE",
    BOM_UTF32_BE: "UTF-32BE",
    BOM_UTF16_LE: "UTF-16LE",
    BOM_UTF16_BE: "UTF-16BE",
}
_UNITS = {"UTF-32LE": "<u4", "UTF-32BE": ">u4", "UTF-16LE": "<u2", "UTF-16BE": ">u2"}
_COMPRESSED = {b"\x1f\x8b": ".gz", b"\xfd7zXZ\0": ".xz", b"\x28\xb5\x2f\xfd": ".zst"}


def describe_other_format(path: Path, beginning: bytes) -> str | None:
    """Return what is wrong with a file that is UTF-16, UTF-32 or compressed, and the remedy.

    Without a byte order mark, UTF-16 can be valid UTF-8 with NUL characters, so it must be looked for.

    Args:
        path: The file, for the message.
        beginning: Its first bytes.
    """
    suffix = next((suffix for mark, suffix in _COMPRESSED.items() if beginning.startswith(mark)), None)
    if suffix is not None:
        return f"{path} is compressed, but its name does not say so: rename it to {path.name}{suffix}"
    encoding = next((name for mark, name in _MARKS.items() if beginning.startswith(mark)), None)
    encoding = encoding or next((name for name in _UNITS if _has_lines(beginning, name)), None)
    return encoding and f"{path} is {encoding} instead of UTF-8: convert it with {_conversion(path, encoding)}"


def describe_invalid_utf8(path: Path, line: int, text: bytes, position: int) -> str:
    """Return what is wrong with a file that is not UTF-8, and the remedy.

    Args:
        path: The file.
        line: Number of the first line that is not UTF-8.
        text: A part of the file with this line.
        position: Where in `text` the first byte is that is not UTF-8.
    """
    valid = text.decode(errors="ignore")
    num_valid = len(valid) - len(valid.encode("ascii", "ignore"))
    num_invalid = text.decode(errors="replace").count("\ufffd") - valid.count("\ufffd")
    if num_valid > num_invalid:
        remedy = "the rest of the file is UTF-8, so correct this line"
    else:
        remedy = (
            "convert the file from its own encoding, for Western European text with "
            f"{_conversion(path, 'WINDOWS-1252')}"
        )
    return f"{path}:{line}: invalid UTF-8 (byte 0x{text[position]:02x}); {remedy}"


def _has_lines(beginning: bytes, encoding: str) -> bool:
    """Whether most line feeds are line feeds in this encoding, too."""
    dtype = np.dtype(_UNITS[encoding])
    units = np.frombuffer(beginning[: len(beginning) // dtype.itemsize * dtype.itemsize], dtype)
    return 2 * int(np.count_nonzero(units == ord("\n"))) > beginning.count(b"\n")


def _conversion(path: Path, encoding: str) -> str:
    return f"`iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > NEW`"
