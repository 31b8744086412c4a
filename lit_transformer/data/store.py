"""Token sequences in a memory-mapped file, gathered into padded arrays by vectorised code alone."""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from datasets import Dataset

from lit_transformer.batch import PAD_ID
from lit_transformer.data.arrow_file import mapped

IntArray = npt.NDArray[np.int64]
Integers = npt.NDArray[np.integer]


class TokenStore:
    """Rows of a tokenized dataset as padded arrays.

    All values of the Arrow file are seen as one flat array, whatever record batches they are in, and each row
    is a start and a length in it. Only these two numbers per row and side are held in memory, 6 bytes a side up to
    about 4 billion tokens. Pickling takes the file's name along, not its content, so workers are cheap to start.

    Args:
        dataset: Integer lists in the columns `source` and `target`, as `tokenize_pairs` gives them. Rows that
            are not memory-mapped from one file as they are (selected, shuffled, made in memory) are copied.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        buffer = _arrow_stream(dataset)
        table = pa.ipc.open_stream(buffer).read_all()
        item_type = table.schema.field("source").type.value_type.to_pandas_dtype()
        item_size = np.dtype(item_type).itemsize
        self._flat: Integers = np.frombuffer(buffer, item_type, count=buffer.size // item_size)
        start_type = np.uint32 if self._flat.size < 2**32 else np.int64
        self._starts: dict[str, Integers] = {}
        self._lengths: dict[str, Integers] = {}
        for column in ("source", "target"):
            starts: Integers = np.empty(len(dataset), start_type)
            lengths: Integers = np.empty(len(dataset), np.int32)
            begin = 0
            for chunk in table[column].chunks:
                base = _address(chunk.values) - buffer.address
                assert base % item_size == 0, "Arrow aligns buffers to 8 bytes"
                offsets, rows = chunk.offsets.to_numpy(), slice(begin, begin + len(chunk))
                # In the width of the result: no copies in between.
                first = np.int64(base // item_size).astype(start_type)
                np.add(offsets[:-1], first, out=starts[rows], dtype=start_type, casting="unsafe")
                np.subtract(offsets[1:], offsets[:-1], out=lengths[rows])
                begin += len(chunk)
            self._starts[column], self._lengths[column] = starts, _narrow(lengths)

    def __len__(self) -> int:
        return len(self._starts["source"])

    @property
    def fingerprint(self) -> str:
        """Of the dataset: the same for the same rows."""
        return self._dataset._fingerprint

    def lengths(self, column: Literal["source", "target"]) -> Integers:
        """Tokens of every row, `EOS_ID` included; int16 if that holds them."""
        return self._lengths[column]

    def gather(self, rows: npt.NDArray[np.integer], column: Literal["source", "target"]) -> IntArray:
        """The given rows in this order, shape [rows, longest of them], padded at the end with `PAD_ID`."""
        lengths = self._lengths[column][rows]
        positions = np.arange(int(lengths.max(initial=0)))
        starts = self._starts[column][rows][:, None]
        # Past its end a row reads its neighbours, and the last rows would read past the file: hence "clip".
        tokens: IntArray = self._flat.take(starts + positions, mode="clip").astype(np.int64)
        tokens[positions >= lengths[:, None]] = PAD_ID
        return tokens

    def __reduce__(self) -> tuple[type["TokenStore"], tuple[Dataset]]:
        return TokenStore, (self._dataset,)


def _arrow_stream(dataset: Dataset) -> pa.Buffer:
    """The Arrow stream of exactly these rows: the mapped file itself where it is that, else a copy."""
    files = dataset.cache_files
    if len(files) == 1 and dataset._indices is None:  # indices stand for rows that were selected or shuffled
        buffer = mapped(Path(files[0]["filename"]))
        if pa.ipc.open_stream(buffer).read_all().num_rows == len(dataset):
            return buffer
    table = dataset.with_format("arrow")[:]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _narrow(lengths: Integers) -> Integers:
    return lengths.astype(np.int16) if lengths.max(initial=0) < 2**15 else lengths


def _address(values: pa.Array) -> int:
    """Where the first value lies; an empty array may have no buffer, and then its address is never used."""
    data = values.buffers()[1]
    return 0 if data is None else data.address + values.offset * values.type.bit_width // 8
