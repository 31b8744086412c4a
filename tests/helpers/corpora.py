"""Text and tokens for tests: folders of text files, a toy corpus of demo sentences, files of tokens."""

import gzip
import lzma
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from lit_transformer.data.arrow_file import write_arrow
from lit_transformer.data.demo.corpus import demo_pairs

NUM_SENTENCES = 64


def write_folder(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files, those whose names end in `.gz`, `.xz` or `.zst` compressed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        data = content.encode() if isinstance(content, str) else content
        match Path(name).suffix:
            case ".gz":
                data = gzip.compress(data)
            case ".xz":
                data = lzma.compress(data)
            case ".zst":
                data = pa.compress(data, codec="zstd", asbytes=True)
        (folder / name).write_bytes(data)
    return folder


def make_corpus(folder: Path) -> Path:
    """Write 64 demo sentences as training and validation text: a model that learns them by heart scores well."""
    pairs = demo_pairs("train", num_pairs=NUM_SENTENCES)
    english, german = ("".join(f"{pair[side]}\n" for pair in pairs) for side in (0, 1))
    return write_folder(folder, {"train.en": english, "train.de": german, "valid.en": english, "valid.de": german})


def write_tokens(
    path: Path,
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    item_type: pa.DataType | None = None,
    chunk_size: int = 1000,
) -> Path:
    """Write pairs of token lists as preparation does, in record batches of `chunk_size` rows."""
    schema = pa.schema([(name, pa.list_(item_type or pa.uint16())) for name in ("source", "target")])
    chunks = [rows[start : start + chunk_size] for start in range(0, len(rows), chunk_size)]
    sides = [[[row[side] for row in chunk] for side in (0, 1)] for chunk in chunks]
    write_arrow(path, schema, [pa.record_batch(each, schema=schema) for each in sides])
    return path
