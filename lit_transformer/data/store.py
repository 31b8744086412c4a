"""The token store: tokenized sentences in a memory-mapped file, gathered into padded arrays by vectorized code alone.

Legend: B batch, X any size.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from lit_transformer.batch import PAD_ID, IntArray
from lit_transformer.data.arrow_file import map_file

Side = Literal["source", "target", "text"]
"""A column of tokens. Pairs have the first two, and lines of one language the last."""


class TokenStore:
    """Rows of tokens as padded arrays.

    All token ids of the Arrow file are one flat array, whatever record batches they are in. A row is a start and a
    length in it. Only these two numbers per row and side are held in memory: 6 bytes per side up to about 4 billion
    tokens. Pickling takes only the path along, so workers start fast.

    Args:
        path: A file of `tokenize_pairs` or `tokenize_lines`: integer lists in one column or two.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        buffer = map_file(path)
        table = pa.ipc.open_stream(buffer).read_all()
        item_type = table.schema.field(0).type.value_type.to_pandas_dtype()
        item_size = np.dtype(item_type).itemsize
        self._tokens: IntArray = np.frombuffer(buffer, item_type, count=buffer.size // item_size)
        start_type = np.uint32 if self._tokens.size < 2**32 else np.int64
        self._starts: dict[str, IntArray] = {}
        self._lengths: dict[str, IntArray] = {}
        for side in table.schema.names:
            starts: IntArray = np.empty(len(table), start_type)
            lengths: IntArray = np.empty(len(table), np.int32)
            begin = 0
            for chunk in table[side].chunks:
                offsets, rows = chunk.offsets.to_numpy(), slice(begin, begin + len(chunk))
                # In the type of the result, without copies. Arrow aligns buffers to 8 bytes.
                first = np.int64((_address(chunk.values) - buffer.address) // item_size).astype(start_type)
                np.add(offsets[:-1], first, out=starts[rows], dtype=start_type, casting="unsafe")
                np.subtract(offsets[1:], offsets[:-1], out=lengths[rows])
                begin += len(chunk)
            fits_int16 = lengths.max(initial=0) < 2**15
            self._starts[side], self._lengths[side] = starts, lengths.astype(np.int16) if fits_int16 else lengths

    def __len__(self) -> int:
        return len(next(iter(self._starts.values())))

    def lengths(self, side: Side) -> IntArray:
        """Return the number of tokens of every row, `EOS_ID` included, as int16 if that holds them."""
        return self._lengths[side]

    def gather(self, rows: IntArray, side: Side) -> IntArray:
        """Return the given rows in this order, shape [B, L], padded at the end with `PAD_ID`."""
        length_B = self._lengths[side][rows]
        position_X = np.arange(int(length_B.max(initial=0)))
        start_B = self._starts[side][rows]
        # A short row reads on into its neighbors, and the last rows would read past the file without "clip".
        tokens_BX = self._tokens.take(start_B[:, None] + position_X, mode="clip").astype(np.int64)
        tokens_BX[position_X >= length_B[:, None]] = PAD_ID
        return tokens_BX

    def __reduce__(self) -> tuple[type["TokenStore"], tuple[Path]]:
        return TokenStore, (self._path,)


def _address(values: pa.Array) -> int:
    """Return the address of the first value. An empty array may have no buffer, and then its address is not used."""
    data = values.buffers()[1]
    return 0 if data is None else data.address + values.offset * values.type.bit_width // 8
