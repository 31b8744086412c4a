"""Tables of results."""

from typing import Any

from lit_transformer.benchmarks.intervals import Interval, Rounds
from lit_transformer.benchmarks.results import in_columns, results_of, rows_of


def test_the_table_compares_with_the_first_contestant() -> None:
    fast, slow = Interval(tokens=300, wall=1.0, cpu=2.0), Interval(tokens=300, wall=3.0, cpu=3.0)
    rounds = Rounds(kept=[{"ours": fast, "peer": slow}] * 3, num_repeated=1)
    facts: dict[str, dict[str, Any]] = {"ours": {"peak_mb": 1234.0}, "peer": {"peak_mb": 7.0, "equal": (9, 10)}}
    results = results_of("decode", rounds, facts)
    assert results[0].speedup is None
    [head, ours, peer] = rows_of(results)
    assert len(set(head)) == len(head) == len(ours)
    assert ours == ["ours", "300", "", "150", "", "1,234", ""]
    assert peer == ["peer", "100", "3.00x (3.00-3.00)", "100", "1.50x (1.50-1.50)", "7", "9 of 10"]
    assert results[0].facts_for_json()["repeated"] == 1


def test_columns_have_one_width() -> None:
    lines = in_columns([["", "speed"], ["a", "1"], ["longer", "1,000,000"]]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].endswith(":|")
