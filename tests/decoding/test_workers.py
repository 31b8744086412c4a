"""Workers find what one process finds, and end with it. Each start of a worker costs an import of torch."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch

from lit_transformer.batch import EOS_ID, PAD_ID
from lit_transformer.decoding import workers
from lit_transformer.decoding.engine import Engine
from lit_transformer.decoding.engines import make_engine
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.settings import EngineSettings
from lit_transformer.decoding.transformer_search import TransformerSearch
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SamplingSettings, SearchSettings
from tests.helpers.processes import fork, status_of

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals, and processes that `ps` shows")

SECONDS = 100.0
BATCH_TOKENS = 37
V = 19
SOURCES = [[4 + (3 * index + place) % 15 for place in range(index % 11)] + [EOS_ID] for index in range(60)]
SETTINGS = SearchSettings(beam_size=3, n_best=3, max_extra_length=13)
LONGEST = 70
Found = list[list[Hypothesis]]


def make_transformer() -> Transformer:
    torch.manual_seed(0)
    config = TransformerConfig(
        d_model=14, d_ff=22, num_heads=2, num_layers=2, positions="learned", max_positions=LONGEST
    )
    return Transformer(config, vocab_size=V, pad_id=PAD_ID).eval().requires_grad_(False)


def make_workers() -> Engine:
    return make_engine(EngineSettings(batch_tokens=BATCH_TOKENS, workers=2), make_transformer())


@pytest.fixture(autouse=True)
def any_work_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PAYS_SECONDS", 0.0)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return make_workers()


class Counts:
    """The processes that are started, and how many batches this process has searched for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.processes: list[subprocess.Popen[bytes]] = []
        self.own_batches = 0
        popen, search = subprocess.Popen, TransformerSearch.search

        def start(*args: object, **options: object) -> "subprocess.Popen[bytes]":
            self.processes.append(popen(*args, **options))  # type: ignore[call-overload]
            return self.processes[-1]

        def count(own: TransformerSearch, *args: object, **options: object) -> Found:
            self.own_batches += 1
            return search(own, *args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(subprocess, "Popen", start)
        monkeypatch.setattr(TransformerSearch, "search", count)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    return Counts(monkeypatch)


def repeat(search: Callable[[], object]) -> Iterator[None]:
    """Search again and again until the caller has seen enough."""
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        search()
        yield
    raise AssertionError("what the test waits for does not come")


def search_together(
    engine: Engine, counts: Counts, settings: SearchSettings = SETTINGS, numbers: Sequence[int] | None = None
) -> tuple[Found, list[int]]:
    """Search until the worker has taken part. Return what was found, and the sentences in the order of `on_batch`."""
    while True:
        counts.own_batches = 0
        batches: list[list[int]] = []
        found = engine.search(SOURCES, settings, numbers, on_batch=batches.append)
        if counts.own_batches < len(batches):
            return found, [index for batch in batches for index in batch]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_workers_find_what_one_thread_finds(engine: Engine, counts: Counts, num_threads: int) -> None:
    """To the bit, and in the order of the sources. Each sentence is reported once."""
    expected = TransformerSearch(make_transformer(), BATCH_TOKENS).search(SOURCES, SETTINGS)
    torch.set_num_threads(num_threads)
    try:
        found, reported = search_together(engine, counts)
        assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(1)
    assert found == expected
    assert sorted(reported) == list(range(len(SOURCES)))


def test_workers_draw_what_one_thread_draws(engine: Engine, counts: Counts) -> None:
    settings = SearchSettings(sampling=SamplingSettings(temperature=0.7, seed=5), n_best=2, max_extra_length=13)
    numbers = [1000 - index for index in range(len(SOURCES))]
    expected = TransformerSearch(make_transformer(), BATCH_TOKENS).search(SOURCES, settings, numbers)
    assert search_together(engine, counts, settings, numbers)[0] == expected


def test_a_gpu_has_no_workers() -> None:
    transformer = make_transformer().to("meta")
    with pytest.raises(UserError, match=r"^workers is 2: it must be 1 on meta"):
        make_engine(EngineSettings(workers=2), transformer)
    assert isinstance(make_engine(EngineSettings(workers=None), transformer), TransformerSearch)
    with pytest.raises(UserError, match=r"^workers is 0: it must be at least 1$"):
        EngineSettings(workers=0)


def test_little_work_starts_none(counts: Counts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a short text nor a conversation, in which each search has one batch."""
    engine = make_workers()
    assert len(engine.search(SOURCES[:2], SETTINGS)) == 2
    assert engine.search([], SETTINGS) == []
    monkeypatch.setattr(workers, "PAYS_SECONDS", 1000.0)
    expected = TransformerSearch(make_transformer(), BATCH_TOKENS).search(SOURCES, SETTINGS)
    assert engine.search(SOURCES, SETTINGS) == expected
    assert not counts.processes


def test_errors_of_workers_are_those_of_one_process(
    engine: Engine, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    search_together(engine, counts)
    # This process finds something, so the error is the worker's.
    monkeypatch.setattr(TransformerSearch, "search", lambda own, sources, settings, numbers: [[]] * len(sources))
    settings = SearchSettings(min_length=LONGEST, max_extra_length=LONGEST)
    with pytest.raises(UserError, match=rf"^min_length is {LONGEST}: .* positions, {LONGEST}$"):
        for _ in repeat(lambda: engine.search(SOURCES, settings)):
            pass


def test_a_worker_that_is_killed(counts: Counts) -> None:
    """One line names a remedy, and the next search has another worker."""
    engine = make_workers()
    search_together(engine, counts)
    counts.processes[0].kill()
    with pytest.raises(UserError, match=r"^a worker process was killed \(SIGKILL\).* workers \(2\)") as raised:
        for _ in repeat(lambda: engine.search(SOURCES, SETTINGS)):
            pass
    assert "\n" not in str(raised.value)
    engine.search(SOURCES, SETTINGS)
    assert [process.poll() for process in counts.processes] == [-signal.SIGKILL, None]


def test_workers_end_with_their_engine(counts: Counts) -> None:
    engine = make_workers()
    engine.search(SOURCES, SETTINGS)
    [process] = counts.processes
    assert process.poll() is None
    del engine
    assert process.wait(SECONDS) == -signal.SIGKILL


def test_ctrl_c_is_for_this_process_alone(counts: Counts) -> None:
    """It ends its workers, which are in a session of their own."""

    def interrupt(_: list[int]) -> None:
        assert os.getsid(counts.processes[0].pid) != os.getsid(0)
        raise KeyboardInterrupt

    engine = make_workers()
    with pytest.raises(KeyboardInterrupt):
        engine.search(SOURCES, SETTINGS, on_batch=interrupt)
    assert counts.processes[0].wait(SECONDS) == -signal.SIGKILL


def test_workers_end_when_this_process_is_killed(counts: Counts, tmp_path: Path) -> None:
    """And they leave no files."""

    def search_and_die() -> int:
        tempfile.tempdir = str(tmp_path)
        search_together(make_workers(), counts)
        (tmp_path / "worker").write_text(str(counts.processes[0].pid))
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    assert status_of(fork(search_and_die)) == -signal.SIGKILL
    command = ["ps", "-o", "stat=", "-p", (tmp_path / "worker").read_text()]
    # A container may have no process that collects orphans.
    for _ in repeat(lambda: time.sleep(0.05)):
        state = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        if not state or state.startswith("Z"):
            break
    assert [path.name for path in tmp_path.iterdir()] == ["worker"]
