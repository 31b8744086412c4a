"""The loader measures how long training waits, and checks before every batch."""

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from lit_transformer.batch import EOS_ID, Batch
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.loader import TimedLoader
from lit_transformer.data.store import TokenStore
from lit_transformer.data.stream import TrainingStream
from tests.helpers.corpora import write_tokens

PAUSE_SECONDS = 0.05


class SlowStream(TrainingStream):
    """A stream that makes its reader wait for every batch."""

    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            time.sleep(PAUSE_SECONDS)
            yield batch


@pytest.fixture
def stream(tmp_path: Path) -> TrainingStream:
    store = TokenStore(write_tokens(tmp_path / "tokens.arrow", [([5, EOS_ID], [7, 11, EOS_ID])] * 13))
    plan = BatchPlan(store.lengths("source"), store.lengths("target"), 6, seed=1)
    return SlowStream(plan, store, first_step=0, accumulation=1, rank=0, world_size=1)


def test_only_the_time_before_a_batch_is_measured(stream: TrainingStream) -> None:
    loader = TimedLoader(stream, num_workers=0, pin_memory=False, check=lambda: None)
    begin = time.perf_counter()
    for _ in islice(loader, 3):
        time.sleep(PAUSE_SECONDS)
    passed = time.perf_counter() - begin
    assert 3 * PAUSE_SECONDS <= loader.wait_seconds <= passed - 2 * PAUSE_SECONDS


def test_no_batch_is_given_if_the_check_raises(stream: TrainingStream) -> None:
    checks = iter([None, None, KeyError])

    def check() -> None:
        if (error := next(checks)) is not None:
            raise error

    batches = iter(TimedLoader(stream, num_workers=0, pin_memory=False, check=check))
    assert [int(np.count_nonzero(next(batches).source_BS)) for _ in range(2)] == [4, 4]
    with pytest.raises(KeyError):
        next(batches)
