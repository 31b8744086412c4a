"""Which part of others' use of the machine disturbed an interval."""

import dataclasses

import pytest

from lit_transformer.benchmarks import usage
from lit_transformer.benchmarks.usage import Usage

BEGIN = Usage(wall=100.0, own=50.0, busy=70.0, stolen=1.0, switches=5)
CORES = 2


@pytest.mark.parametrize(
    ("own", "busy", "stolen", "threads", "lost"),
    [
        (10.0, 10.0, 0.0, 1, 0.0),  # alone
        (10.0, 20.0, 0.0, 1, 0.0),  # the other core is another program's
        (7.0, 20.0, 0.0, 1, 3.0),  # others wanted more than the other core
        (20.0, 20.0, 0.0, 2, 0.0),  # both cores
        (15.0, 20.0, 0.0, 2, 2.5),  # others had a quarter of both
        (15.0, 15.5, 0.0, 2, 0.0),  # it waited itself, and cores were idle
        (18.0, 18.0, 2.0, 2, 1.0),  # the host took a tenth
    ],
)
def test_lost_seconds(
    own: float, busy: float, stolen: float, threads: int, lost: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "usable_cores", lambda: CORES)
    monkeypatch.setattr(usage, "HAS_PROC", True)
    end = Usage(wall=110.0, own=50.0 + own, busy=70.0 + busy, stolen=1.0 + stolen, switches=9)
    interval = end.interval_since(BEGIN, tokens=30, threads=threads)
    assert (interval.tokens, interval.wall, interval.cpu) == (30, 10.0, own)
    assert interval.lost == pytest.approx(lost)


@pytest.mark.parametrize(("switches", "lost"), [(20, 0.0), (5000, 4.0)])
def test_without_proc_interruptions_tell(switches: int, lost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "HAS_PROC", False)
    end = dataclasses.replace(BEGIN, wall=110.0, own=56.0, switches=5 + switches)
    assert end.interval_since(BEGIN, tokens=1, threads=1).lost == pytest.approx(lost)


def test_own_seconds_count_up() -> None:
    begin = Usage.now()
    while Usage.now().own - begin.own < 0.05:
        sum(range(10_000))
    interval = Usage.now().interval_since(begin, tokens=1, threads=1)
    assert interval.cpu >= 0.05
    assert interval.wall > 0.0
