"""The token store gathers what its file holds."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_transformer.batch import PAD_ID
from lit_transformer.data.store import TokenStore
from tests.helpers.corpora import write_tokens

TOKENS = st.lists(st.integers(1, 2**16 - 1), max_size=7)


@given(
    rows=st.lists(st.tuples(TOKENS, TOKENS), min_size=1, max_size=13),
    item_type=st.sampled_from([pa.uint16(), pa.int32()]),
    chunk_size=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_rows_are_gathered_from_any_record_batch(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[list[int], list[int]]],
    item_type: pa.DataType,
    chunk_size: int,
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("store") / "rows.arrow"
    store = pickle.loads(pickle.dumps(TokenStore(write_tokens(path, rows, item_type, chunk_size))))
    assert len(store) == len(rows)
    chosen = np.random.default_rng(seed).integers(0, len(rows), size=5)
    chosen[-1] = len(rows) - 1  # the last row ends where the file does
    for side, name in enumerate(("source", "target")):
        width = max(len(rows[row][side]) for row in chosen)
        expected = [rows[row][side] + [PAD_ID] * (width - len(rows[row][side])) for row in chosen]
        gathered = store.gather(chosen, name)
        assert gathered.dtype == np.int64
        assert gathered.tolist() == expected
        assert store.lengths(name).tolist() == [len(row[side]) for row in rows]


@pytest.mark.parametrize(("longest", "kind"), [(2**15 - 1, np.int16), (2**15, np.int32)])
def test_lengths_take_as_few_bytes_as_they_need(longest: int, kind: type, tmp_path: Path) -> None:
    rows = [(list(range(length)),) * 2 for length in (3, longest, 5)]
    store = TokenStore(write_tokens(tmp_path / "rows.arrow", rows, chunk_size=1))
    assert store.lengths("target").dtype == kind
    assert store.lengths("target").tolist() == [3, longest, 5]
    assert store.gather(np.array([1]), "target").tolist() == [rows[1][1]]


def test_a_pickled_store_is_the_path_of_its_file(tmp_path: Path) -> None:
    rows = [([5, 7, 11], [13, 17])]
    few, many = (TokenStore(write_tokens(tmp_path / str(count), rows * count)) for count in (1, 5000))
    assert len(pickle.dumps(many)) < len(pickle.dumps(few)) + 100
