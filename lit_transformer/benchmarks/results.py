"""Results: a line of JSON for programs, and a table for people."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lit_transformer.benchmarks.intervals import Rounds, Spread, rates, ratios


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one contestant reached in one measure.

    Args:
        measure: The measure.
        contestant: Its name.
        per_second: Tokens per second on the clock.
        per_cpu_second: Tokens per second of a core.
        speedup: How many times as fast ours is, on the clock, in the same round. None for ours.
        cpu_speedup: The same by seconds of a core.
        facts: Everything else that it reported.
    """

    measure: str
    contestant: str
    per_second: Spread
    per_cpu_second: Spread
    speedup: Spread | None
    cpu_speedup: Spread | None
    facts: dict[str, Any] = field(default_factory=dict)

    def facts_for_json(self) -> dict[str, Any]:
        """Everything as plain data."""
        own = asdict(self)
        return {**own.pop("facts"), **own}


def results_of(measure: str, rounds: Rounds, facts: Mapping[str, dict[str, Any]]) -> list[Result]:
    """The results of all contestants. The first one is ours, with which the others are compared."""
    ours = next(iter(facts))
    counts = {"rounds": len(rounds.kept), "repeated": rounds.num_repeated, "disturbed": rounds.num_disturbed}
    return [
        Result(
            measure=measure,
            contestant=name,
            per_second=rates(rounds.kept, name),
            per_cpu_second=rates(rounds.kept, name, by_cpu=True),
            speedup=None if name == ours else ratios(rounds.kept, ours, name),
            cpu_speedup=None if name == ours else ratios(rounds.kept, ours, name, by_cpu=True),
            facts={**counts, **own, "intervals": [asdict(found[name]) for found in rounds.kept]},
        )
        for name, own in facts.items()
    ]


def rows_of(results: Sequence[Result]) -> list[list[str]]:
    """The results of a measure as the cells of a table, the head first."""
    extra = {
        "first_loss": "loss",
        "mfu": "MFU",
        "peak_mb": "peak MB",
        "peak_gpu_mb": "GPU MB",
        "equal": "equal",
        "graphs": "graphs",
        "synchronizations": "waits",
    }
    columns = {key: name for key, name in extra.items() if any(key in result.facts for result in results)}
    rows = [["", "tokens/s", "ours is", "tokens/CPU s", "ours is, by CPU s", *columns.values()]]
    for result in results:
        facts = [_shown(key, result.facts.get(key)) for key in columns]
        rates = [f"{rate.median:,.0f}" for rate in (result.per_second, result.per_cpu_second)]
        speedups = [_speedup(speedup) for speedup in (result.speedup, result.cpu_speedup)]
        rows.append([result.contestant, rates[0], speedups[0], rates[1], speedups[1], *facts])
    return rows


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as a Markdown table whose first row is the head. All but the first column are aligned right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(cell.rjust(width) if number else cell.ljust(width) for number, (cell, width) in enumerate(cells))
        for cells in (zip(row, widths, strict=True) for row in rows)
    ]
    rule = "|".join("-" * (width + 1) + (":" if number else "-") for number, width in enumerate(widths))
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])])


def _speedup(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.median:.2f}x ({spread.low:.2f}-{spread.high:.2f})"


def _shown(key: str, value: Any) -> str:
    if value is None:
        return ""
    if key == "equal":
        return f"{value[0]:,} of {value[1]:,}"
    if key == "graphs":
        return f"{value[0]}+{value[1]}"
    if key == "synchronizations":
        return f"{value:.1f}"
    if key == "first_loss":
        return f"{value:.4f}"
    return f"{100 * value:.1f} %" if key == "mfu" else f"{value:,.0f}"
