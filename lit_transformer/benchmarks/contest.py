"""Contestants work in turn on the same batches, and each measures itself.

Normally each is a process of its own. So the memory and the cores that it uses are its own, libraries that disturb each
other are apart, and on a GPU all compile at the same time. This module loads no torch, for contestants without it.
"""

import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any, Protocol, TypeVar

from lit_transformer.benchmarks.intervals import Interval, Rounds, measure_rounds
from lit_transformer.benchmarks.usage import Usage, peak_megabytes
from lit_transformer.errors import UserError

NUM_ROUNDS, FEWEST_ROUNDS = 9, 3
READY_SECONDS = 240.0
"""Contestants that are not ready by then, such as those that still compile, do not take part."""
STUCK_SECONDS = 600.0
"""A contestant that works this long on one interval has failed."""


class Work(Protocol):
    """What a contestant is to do."""

    threads: int
    """The threads, over all processes, that it keeps busy if nothing disturbs it."""

    def run(self, batches: Sequence[int]) -> int:
        """Work on the batches with these numbers. Return their target tokens without padding."""

    def wake(self, batch: int) -> None:
        """Get what an interval needs, which begins with this batch. It is not measured."""

    def rest(self) -> None:
        """Free what the others need while it waits."""

    def facts(self) -> dict[str, Any]:
        """What it reports at the end. It must be plain data."""


Job = TypeVar("Job")
Prepare = Callable[[Job], Work]
"""From a description to what is measured. It builds, loads and compiles."""


Entry = tuple[Prepare[Any], Any]
"""How a contestant is prepared, and from what."""


class Contestant(Protocol):
    """Measures itself when it is asked."""

    def measure(self, batches: Sequence[int]) -> Interval:
        """Work on the batches with these numbers."""

    def facts(self) -> dict[str, Any]:
        """What it reports at the end."""


class Local:
    """A contestant in this process."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def measure(self, batches: Sequence[int]) -> Interval:
        self._work.wake(batches[0])
        begin = Usage.now()
        tokens = self._work.run(batches)
        interval = Usage.now().interval_since(begin, tokens=tokens, threads=self._work.threads)
        self._work.rest()
        return interval

    def facts(self) -> dict[str, Any]:
        return {"peak_mb": peak_megabytes(), **self._work.facts()}


class Remote:
    """A contestant in a process of its own, which starts at once and sends a message as soon as it is prepared."""

    def __init__(self, prepare: Prepare[Job], job: Job) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, prepare, job))
        self._process.start()
        theirs.close()

    def measure(self, batches: Sequence[int]) -> Interval:
        self.pipe.send(list(batches))
        found: Interval = self.receive()
        return found

    def facts(self) -> dict[str, Any]:
        self.pipe.send(None)
        facts: dict[str, Any] = self.receive()
        return facts

    def receive(self) -> Any:
        """The next answer.

        Raises:
            UserError: It has failed.
        """
        if not self.pipe.poll(STUCK_SECONDS):
            raise UserError(f"it did not answer for {STUCK_SECONDS:.0f} seconds")
        try:
            answer = self.pipe.recv()
        except EOFError as error:
            self._process.join()
            raise UserError(f"its process ended with status {self._process.exitcode}") from error
        if isinstance(answer, str):
            raise UserError(answer)
        return answer

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self._process.join(5.0)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, prepare: Prepare[Job], job: Job) -> None:
    """The other side of `Remote`. It ends when the pipe is closed. An error is sent as a string."""
    try:
        contestant = Local(prepare(job))
        pipe.send(True)
        while True:
            batches = pipe.recv()
            pipe.send(contestant.facts() if batches is None else contestant.measure(batches))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass
    except UserError as error:
        pipe.send(str(error))
    except Exception as error:
        traceback.print_exc()
        pipe.send(f"{type(error).__name__}: {(str(error).splitlines() or ['no reason given'])[0]}")


Name = TypeVar("Name")


def wait_until_ready(contestants: Mapping[Name, Remote], failed: Callable[[Name, str], None]) -> dict[Name, Remote]:
    """The contestants that are prepared in time.

    Args:
        contestants: All of them, by name.
        failed: Called with the name of every other one, and the reason.
    """
    deadline = monotonic() + READY_SECONDS
    waiting, ready = dict(contestants), dict[Name, Remote]()
    while waiting and (left := deadline - monotonic()) > 0:
        spoken = wait([contestant.pipe for contestant in waiting.values()], timeout=left)
        for name in [name for name, contestant in waiting.items() if contestant.pipe in spoken]:
            try:
                waiting[name].receive()
                ready[name] = waiting.pop(name)
            except UserError as error:
                failed(name, str(error))
                waiting.pop(name).end()
    for name, contestant in waiting.items():
        failed(name, f"it was not prepared within {READY_SECONDS:.0f} seconds")
        contestant.end()
    return {name: ready[name] for name in contestants if name in ready}


def compete(
    contestants: Mapping[str, Contestant], *, num_batches: int, seconds: float, fewest_batches: int = 1
) -> Rounds:
    """Measure contestants round after round, all on the same batches in a round.

    Args:
        contestants: At least one, by name.
        num_batches: The batches that there are. They are used again if the time allows more.
        seconds: How long the slowest contestant measures, about. Three intervals may take longer.
        fewest_batches: The least number of batches of an interval.

    Raises:
        UserError: A contestant has failed.
    """
    for contestant in contestants.values():  # the first batch chooses kernels and grows the memory
        contestant.measure([0])
    slowest = max(contestant.measure([num_batches - 1]).wall for contestant in contestants.values())
    num_rounds = max(FEWEST_ROUNDS, min(NUM_ROUNDS, int(seconds / slowest / fewest_batches)))
    per_round = max(fewest_batches, round(seconds / num_rounds / slowest))

    def measure(number: int) -> dict[str, Interval]:
        batches = [batch % num_batches for batch in range(number * per_round, (number + 1) * per_round)]
        # The one that is first in a round is last in the next: a machine that slows down favors none.
        names = list(contestants)[:: -1 if number % 2 else 1]
        return {name: contestants[name].measure(batches) for name in names}

    return measure_rounds(measure, num_rounds)
