"""What the benchmark prints: tables for people, and lines of JSON for programs."""

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, TextIO

from lit_transformer.benchmarks.measures import Contest, hold
from lit_transformer.benchmarks.results import in_columns, rows_of
from lit_transformer.errors import UserError
from lit_transformer.files import expanded
from lit_transformer.notes import print_warning


class Printer:
    """Prints tables for people, and lines for programs.

    Args:
        lines: Where lines of JSON are written, if anywhere. If it is stdout, tables go to stderr.
        common: What all lines have in common.
    """

    def __init__(self, lines: TextIO | None, common: dict[str, Any]) -> None:
        self._lines, self._common = lines, common

    def show(self, text: str) -> None:
        """Print text for people."""
        print(text, file=sys.stderr if self._lines is sys.stdout else sys.stdout, flush=True)

    def write(self, **facts: object) -> None:
        """Write a line for programs."""
        if self._lines is not None:
            print(json.dumps({**facts, **self._common}, ensure_ascii=False), file=self._lines, flush=True)


def open_json(place: str | None, stack: ExitStack) -> TextIO | None:
    """The file of --json, which later lines are appended to.

    Raises:
        UserError: It cannot be written.
    """
    if place is None or place == "-":
        return sys.stdout if place else None
    try:
        return stack.enter_context(expanded(place).open("a", encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot write --json {place}: {error.strerror or error}") from error


def print_contests(contests: Sequence[Contest], printer: Printer) -> None:
    """Hold contests and print their results."""
    for contest in contests:  # the first table may take minutes
        print(f"measuring {contest.title}: {'; '.join(contest.entries)}", file=sys.stderr, flush=True)
    for contest, results in hold(contests, lambda name, reason: print_warning(f"{name} is left out: {reason}")):
        if not results:
            continue
        for result in results:
            printer.write(title=contest.title, **contest.described, **result.facts_for_json())
        facts = results[0].facts
        repeated = f"{facts['rounds']} rounds, {facts['repeated']} of them repeated"
        printer.show(f"\n{contest.title} ({repeated})\n\n{in_columns(rows_of(results))}")
        if disturbed := facts["disturbed"]:
            print_warning(
                f"other programs disturbed {disturbed} of {facts['rounds']} rounds, also when they were repeated: "
                "compare seconds of a core, or stop the other programs"
            )


def print_rows(measure: str, rows: Sequence[dict[str, Any]], printer: Printer) -> None:
    """Print measurements that nothing is compared with."""
    printer.show(f"\n{measure}\n")
    for row in rows:
        printer.write(measure=measure, **row)
        values = ", ".join(
            f"{name.replace('_', ' ')} {format_value(value)}" for name, value in row.items() if name != "name"
        )
        printer.show(f"- {row['name']}: {values}")


def format_value(value: object) -> str:
    """A value for people."""
    if isinstance(value, float):
        return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}" if value < 1e9 else f"{value:.3g}"
    return str(value)
