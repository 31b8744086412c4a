"""CUDA graphs without a GPU: what is called, what is captured and what is replayed."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from lit_transformer.decoding import replay
from lit_transformer.decoding.replay import Calls, CudaGraphs, best_replay
from lit_transformer.errors import UserError

GPU = torch.device("cuda")


class FakeGraph:
    """Repeats what was done while it was captured."""

    events: list[str]
    captured: list[str]

    def replay(self) -> None:
        self.events += [f"replayed {event}" for event in self.captured]


class FakeStream:
    device = GPU

    def __init__(self, device: torch.device = GPU) -> None:
        self.waited_for: list[object] = []

    def wait_stream(self, other: object) -> None:
        self.waited_for.append(other)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the steps and the graphs do."""
    events: list[str] = []

    @contextmanager
    def capture(graph: Any, *_: object, **__: object) -> Iterator[None]:
        first = len(events)
        yield
        graph.events, graph.captured = events, events[first:]
        del events[first:]

    for name, fake in {
        "Stream": FakeStream,
        "CUDAGraph": FakeGraph,
        "graph": capture,
        "graph_pool_handle": object,
        "current_stream": FakeStream,
        "stream": lambda _: nullcontext(),
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return events


def test_a_step_is_called_once_then_captured_and_replayed(events: list[str]) -> None:
    graphs = CudaGraphs(GPU)
    with graphs.active():
        for key in "aabab":
            graphs.run(key, lambda key=key: events.append(key))  # type: ignore[misc]
    assert events == ["a", "replayed a", "b", "replayed a", "replayed b"]
    graphs.clear()
    graphs.run("a", lambda: events.append("again"))
    assert events[-1] == "again"


def test_the_number_of_graphs_is_bounded(events: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "MAX_GRAPHS", 2)
    graphs = CudaGraphs(GPU)
    for key in "aabbcca":
        graphs.run(key, lambda key=key: events.append(key))  # type: ignore[misc]
    assert events == ["a", "replayed a", "b", "replayed b", "c", "replayed c", "a"]


@pytest.mark.usefixtures("events")
@pytest.mark.parametrize(
    ("message", "error"), [("operation not permitted\nwhen capturing", UserError), ("CUDA out of memory", RuntimeError)]
)
def test_a_step_that_cannot_be_captured(message: str, error: type[Exception]) -> None:
    graphs = CudaGraphs(GPU)
    graphs.run("a", lambda: None)

    def fail() -> None:
        raise RuntimeError(message)

    with pytest.raises(error, match=message.splitlines()[0]) as raised:
        graphs.run("a", fail)
    assert "\n" not in str(raised.value)


def test_other_devices_call_every_step() -> None:
    done: list[int] = []
    calls = best_replay(torch.device("cpu"))
    assert isinstance(calls, Calls)
    with calls.active():
        for number in range(3):
            calls.run("a", lambda number=number: done.append(number))  # type: ignore[misc]
    calls.clear()
    assert done == [0, 1, 2]
