"""What a contestant uses of the machine, and what other programs take of it meanwhile.

On Linux the kernel counts both in /proc. Elsewhere only the process itself is measured. This module loads no torch,
because contestants that do not need it measure themselves, too.
"""

import os
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from lit_transformer.benchmarks.intervals import Interval
from lit_transformer.machine import usable_cores

PROC = Path("/proc")
HAS_PROC = (PROC / "stat").exists()
TICK = 1 / os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0.01
BUSY = (0, 1, 2, 5, 6)
"""The columns of /proc/stat that programs fill: user, nice, system, and interrupts."""
SWITCHES_PER_SECOND = 100.0
"""A thread that nobody disturbs is interrupted a few times per second, and one that shares its core at every slice."""
STOLEN = 7
"""The column with the time that a virtual machine waited for its host."""


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What has been used since the start, in seconds."""

    wall: float
    own: float
    """Of all cores, by this process and its children."""
    busy: float
    """Of the cores that this process may use, by all programs."""
    stolen: float
    """Of the same cores, by other virtual machines."""
    switches: int
    """How often the system took a core away from this process."""

    @classmethod
    def now(cls) -> "Usage":
        """Read the counters."""
        busy, stolen = _core_seconds()
        return cls(
            wall=time.perf_counter(),
            own=time.process_time() + children_seconds(),
            busy=busy,
            stolen=stolen,
            switches=_switches(),
        )

    def interval_since(self, begin: "Usage", *, tokens: int, threads: int) -> Interval:
        """What happened between two readings.

        Args:
            begin: The earlier one.
            tokens: Tokens that were computed meanwhile.
            threads: Threads, over all processes, that this one keeps busy if nothing disturbs it.
        """
        wall, own = self.wall - begin.wall, self.own - begin.own
        missing = max(threads * wall - own, 0.0)
        if HAS_PROC:
            busy, stolen = self.busy - begin.busy, self.stolen - begin.stolen
            idle = max(usable_cores() * wall - busy - stolen, 0.0)
            # What others took from idle cores kept this process from nothing.
            lost = stolen + max(min(busy - own, missing) - idle, 0.0)
        else:
            lost = missing if self.switches - begin.switches > SWITCHES_PER_SECOND * wall else 0.0
        return Interval(tokens=tokens, wall=wall, cpu=own, lost=lost / threads)


def _cores() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _core_seconds() -> tuple[float, float]:
    """Busy and stolen seconds of the usable cores."""
    if not HAS_PROC:
        return 0.0, 0.0
    busy = stolen = 0
    names = {f"cpu{core}" for core in _cores()}
    for line in (PROC / "stat").read_text().splitlines():
        name, *columns = line.split()
        if name in names:
            busy += sum(int(columns[column]) for column in BUSY)
            stolen += int(columns[STOLEN])
    return busy * TICK, stolen * TICK


def children_seconds() -> float:
    """Seconds of the processes that this one started, directly or not, those that have ended included."""
    ended = os.times()
    return ended.children_user + ended.children_system + sum(_fields(child)[1] for child in descendants())


def descendants() -> list[int]:
    """The processes that this one started, directly or not, as far as they still run."""
    if not HAS_PROC:
        return []
    children = defaultdict[int, list[int]](list)
    for path in PROC.iterdir():
        if path.name.isdecimal():
            children[int(_fields(int(path.name))[0])].append(int(path.name))
    found, waiting = [], [os.getpid()]
    while waiting:
        own = children[waiting.pop()]
        found += own
        waiting += own
    return found


def _fields(process: int) -> tuple[float, float]:
    """The parent of a process and its seconds on a core, or zeros if it has ended."""
    try:
        # The name of the program comes first, in parentheses, and may have spaces.
        fields = (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    return int(fields[1]), (int(fields[11]) + int(fields[12])) * TICK


def _switches() -> int:
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def peak_megabytes() -> float:
    """The most memory that this process and its running children have had, or 0 if the system does not tell."""
    if not HAS_PROC:
        return 0.0
    peaks = 0.0
    for process in (os.getpid(), *descendants()):
        try:
            status = (PROC / str(process) / "status").read_text()
        except OSError:
            continue
        peaks += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024 / 1e6
    return peaks
