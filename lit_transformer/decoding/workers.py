"""The plain search in several processes of one thread each: this one and its workers.

One process with several threads is slower than as many processes with one thread. Threads wait for each other after
each product, and if another program takes one of the cores, they wait for most of the time. What is found is the same.

Workers are programs of their own and no copies of this process. So a script that translates is not run again, and
neither OpenMP nor CUDA is forked.
"""

import pickle
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory, gettempdir
from threading import Lock, Thread
from weakref import finalize

import torch

from lit_transformer.data.batching import batches_by_length
from lit_transformer.decoding.child_process import Process, start_module
from lit_transformer.decoding.engine import OnBatch, gathered
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.transformer_search import TransformerSearch
from lit_transformer.decoding.worker_process import Model, Reply, Request
from lit_transformer.errors import UserError
from lit_transformer.machine import usable_cores
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings

PROCESS = "lit_transformer.decoding.worker_process"
PAYS_SECONDS = 4.0
"""Work of one thread from which workers are started. Each needs 2 seconds of a core that is idle until then."""

Result = tuple[int, list[list[Hypothesis]]]
"""The number of a batch, and what was found."""
Tasks = SimpleQueue[tuple[int, Request] | None]
"""Batches with their numbers. None ends a worker."""
Results = SimpleQueue[Result | Exception]


def default_workers() -> int:
    """The processes that a command uses for long inputs: as many as PyTorch would use threads."""
    return min(torch.get_num_threads(), usable_cores())


class WorkerSearch:
    """An engine that shares large searches among this process and its workers.

    A search of several batches runs on one thread, because sums of several threads may round differently. So what is
    found does not depend on when the workers start. They start when there is enough work, and end with this object.

    Args:
        transformer: The model, on the CPU. The workers have the weights of the time when they are started.
        batch_tokens: Padded source tokens per batch.
        num_processes: This process and its workers.
    """

    def __init__(self, transformer: Transformer, batch_tokens: int, num_processes: int) -> None:
        self._own = TransformerSearch(transformer, batch_tokens, num_processes)
        self._workers: Workers | None = None
        self._lock = Lock()
        self._seconds, self._tokens = 0.0, 0
        """The time of searches of several batches without workers, and their source tokens."""

    def search(
        self,
        sources: Sequence[list[int]],
        settings: SearchSettings,
        numbers: Sequence[int] | None = None,
        *,
        on_batch: OnBatch = lambda _: None,
    ) -> list[list[Hypothesis]]:
        """See `Engine.search`."""
        batches = list(batches_by_length([len(ids) for ids in sources], self._own.batch_tokens))
        if len(batches) <= 1:
            return self._own.search(sources, settings, numbers, on_batch=on_batch)
        numbers = range(len(sources)) if numbers is None else numbers
        requests = [
            Request([sources[index] for index in batch], settings, [numbers[index] for index in batch])
            for batch in batches
        ]
        with self._lock, _one_thread():
            results = ((batches[number], hypotheses) for number, hypotheses in self._search(requests))
            return gathered(len(sources), results, on_batch)

    def _search(self, requests: Sequence[Request]) -> Iterator[Result]:
        """Search for batches, and start workers as soon as they pay."""
        left = sum(request.num_tokens for request in requests)
        for number, request in enumerate(requests):
            if self._workers is None and self._pays(left):
                self._workers = Workers(self._own)
            if self._workers is not None:
                try:
                    yield from self._workers.search(requests, number)
                except BaseException:
                    self._workers.end()
                    self._workers = None
                    raise
                return
            begin = time.perf_counter()
            yield number, self._own.search(*request)
            self._seconds += time.perf_counter() - begin
            self._tokens += request.num_tokens
            left -= request.num_tokens

    def _pays(self, left: int) -> bool:
        """Whether many source tokens are left, or have been: a long input rarely ends here."""
        expected = self._seconds / self._tokens * left if self._tokens else 0.0
        return max(self._seconds, expected) >= PAYS_SECONDS


class Workers:
    """Running workers. They end with this object.

    Args:
        own: The search of this process, which takes part.

    Raises:
        UserError: If they cannot be started.
    """

    def __init__(self, own: TransformerSearch) -> None:
        self._own = own
        self._tasks: Tasks = SimpleQueue()
        self._results: Results = SimpleQueue()
        try:
            folder, model = _write_model(own)
            processes = [start_module(PROCESS, OMP_NUM_THREADS="1") for _ in range(own.num_processes - 1)]
        except (OSError, RuntimeError) as error:
            raise UserError(
                f"workers is {own.num_processes}, but processes cannot be started ({str(error).splitlines()[0]}): set "
                f"it to 1, or free memory and space in {gettempdir()}"
            ) from error
        self.end = finalize(self, _end, processes, self._tasks, folder)
        """Ends the workers."""
        loading = set(processes)
        for process in processes:
            args = (process, model, self._tasks, self._results, loading, folder)
            Thread(target=_hand_out, args=args, daemon=True).start()

    def search(self, requests: Sequence[Request], first: int) -> Iterator[Result]:
        """Search for batches, in this process and in the workers that have started.

        Args:
            requests: The batches.
            first: The number of the first one that is searched for.

        Yields:
            The results, as they come.

        Raises:
            UserError: If the memory does not suffice, a worker was killed, or the model's scores are not finite.
        """
        for number in range(first, len(requests)):
            self._tasks.put((number, requests[number]))
        for _ in range(first, len(requests)):
            while self._results.empty() and (task := self._next_task()):
                number, request = task
                self._results.put((number, self._own.search(*request)))
            result = self._results.get()
            if isinstance(result, Exception):
                raise result
            yield result

    def _next_task(self) -> tuple[int, Request] | None:
        with suppress(Empty):
            return self._tasks.get_nowait()
        return None


def _write_model(search: TransformerSearch) -> tuple[TemporaryDirectory[str], Model]:
    """Write the weights to a file. In /dev/shm there may be no space for them: containers have 64 MB there."""
    folder = TemporaryDirectory(prefix="lit_transformer_", ignore_cleanup_errors=True)
    weights = Path(folder.name) / "weights.pt"
    transformer = search.transformer
    torch.save(transformer.state_dict(), weights)
    model = Model(
        transformer.config,
        transformer.vocab_size,
        transformer.source_vocab_size,
        weights,
        search.batch_tokens,
        search.num_processes,
        torch.get_float32_matmul_precision(),
    )
    return folder, model


def _hand_out(
    process: Process,
    model: Model,
    tasks: Tasks,
    results: Results,
    loading: set[Process],
    folder: TemporaryDirectory[str],
) -> None:
    """Give a worker one task after the other."""
    try:
        _ask(process, model)
        loading.remove(process)
        if not loading:
            folder.cleanup()  # what is mapped stays, except on Windows, where files in use cannot be removed
        while task := tasks.get():
            number, request = task
            reply = _ask(process, request)
            results.put(reply if isinstance(reply, UserError) else (number, reply))
    except (EOFError, OSError, pickle.UnpicklingError):
        results.put(_reason(process.wait(), model))
    except Exception as error:  # the other thread waits for a result
        results.put(error)
    finally:
        with suppress(OSError), process:  # closes its pipes
            pass


def _ask(process: Process, request: Model | Request) -> Reply:
    assert process.stdin is not None
    assert process.stdout is not None
    pickle.dump(request, process.stdin)
    process.stdin.flush()
    reply: Reply = pickle.load(process.stdout)
    return reply


def _reason(status: int, model: Model) -> Exception:
    """Why a worker has ended."""
    if status < 0:
        return UserError(
            f"a worker process was killed ({signal.Signals(-status).name}), perhaps because the memory does not "
            f"suffice: lower workers ({model.num_processes}) or batch_tokens ({model.batch_tokens})"
        )
    return RuntimeError(f"a worker process ended with status {status}; its traceback is on stderr")


def _end(processes: Sequence[Process], tasks: Tasks, folder: TemporaryDirectory[str]) -> None:
    for process in processes:
        process.kill()
        process.wait()
        tasks.put(None)
    folder.cleanup()


@contextmanager
def _one_thread() -> Iterator[None]:
    former = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(former)
