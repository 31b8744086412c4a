"""How far a long computation is: a live bar on a terminal, else a line from time to time. Both are on stderr."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from lit_transformer.notes import bars_hidden, counted, format_duration

FIRST_BAR_SECONDS = 1.0
"""What takes less time has no bar."""
SECONDS_PER_LINE = 10.0
"""Least time before a line and between two lines."""
LARGE_SHARE = 0.1
MOST_SECONDS_PER_LINE = 60.0
"""A line waits until this share of the whole is done, but no longer than a minute."""

LARGE_SIZE = 50_000
"""Sentences that take a second or more to read or tokenize."""

Advance = Callable[[float], object]
"""Called with the number of things that have just been done. A part of a thing is a fraction."""


@contextmanager
def progress(doing: str, total: int | None, unit: str, *, done: int = 0, is_shown: bool = True) -> Iterator[Advance]:
    """Show how far a computation is.

    Args:
        doing: What is done, such as `translating`.
        total: How many things there are, or None if that is not known.
        unit: What one thing is called, such as `line`.
        done: How many were done before.
        is_shown: False shows nothing, for example because the results themselves appear on the terminal.
    """
    if is_shown and sys.stderr.isatty():
        with tqdm(
            total=total,
            initial=done,
            desc=doing,
            unit=f" {unit}s",
            file=sys.stderr,
            delay=FIRST_BAR_SECONDS,
            leave=False,
            dynamic_ncols=True,
        ) as bar:
            yield _in_whole_numbers(bar.update)
    elif is_shown:
        yield _Lines(doing, total, unit, done).advance
    else:
        yield lambda _: None


def announce(doing: str, size: int) -> None:
    """Print a line about work that cannot tell how far it is, if it is large."""
    if size >= LARGE_SIZE:
        with bars_hidden():
            print(doing, file=sys.stderr, flush=True)


def _in_whole_numbers(update: Advance) -> Advance:
    done = 0.0

    def advance(number: float) -> None:
        nonlocal done
        before, done = round(done, 6), done + number
        update(int(round(done, 6)) - int(before))

    return advance


class _Lines:
    """Lines for a log."""

    def __init__(self, doing: str, total: int | None, unit: str, done: int) -> None:
        self.doing = doing
        self.total = total
        self.unit = unit
        self.first = done
        self.done = self.printed = float(done)
        self.begin = self.last = time.monotonic()

    def advance(self, number: float) -> None:
        self.done += number
        seconds = time.monotonic() - self.last
        is_large_step = self.done - self.printed >= LARGE_SHARE * (self.total or self.done)
        is_last = self.total is not None and round(self.done, 6) >= self.total
        if number == 0 or is_last or seconds < (SECONDS_PER_LINE if is_large_step else MOST_SECONDS_PER_LINE):
            return
        self.printed, self.last = self.done, time.monotonic()
        text = counted(int(self.done), self.unit)
        if self.total is not None:
            left = (self.last - self.begin) * (self.total - self.done) / (self.done - self.first)
            text = f"{int(self.done):,} of {counted(self.total, self.unit)}, {format_duration(left)} left"
        print(f"{self.doing}: {text}", file=sys.stderr, flush=True)
