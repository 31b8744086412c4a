"""Damage that a failing disk does."""

from pathlib import Path

from lit_transformer.data.cache import version_of


def flip_silently(path: Path, position: int) -> None:
    """Change a bit so that the file system reports no change. Whoever has the file open keeps the old one."""
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    damaged = path.with_name(f"{path.name}.damaged")  # beside it, so that the two have different inodes
    damaged.write_bytes(data)
    damaged.replace(path)
    seal = path.with_name(f"{path.name}.crc32")
    seal.write_text(" ".join(map(str, [seal.read_text().split()[0], *version_of(path.stat())])))
