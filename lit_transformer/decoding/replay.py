"""How a step is run that has the same tensors every time: call by call, or as a CUDA graph that is replayed."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch

from lit_transformer.decoding.devices import is_out_of_memory
from lit_transformer.errors import UserError

MAX_GRAPHS = 256
"""Graphs that are kept. With one more, all are dropped and captured again, so that many shapes do not fill a GPU."""

Step = Callable[[], None]
"""It reads and writes the same tensors every time, never looks at their numbers, and returns none of its own."""


class Replay(Protocol):
    """Runs steps."""

    def active(self) -> AbstractContextManager[None]:
        """Where steps run, and everything else that writes to their tensors."""

    def run(self, key: Hashable, step: Step) -> None:
        """Run a step. Steps of the same key do the same to the same tensors."""

    def clear(self) -> None:
        """Forget all steps."""


class Calls:
    """Calls every step, as on a CPU."""

    def active(self) -> AbstractContextManager[None]:
        return nullcontext()

    def run(self, key: Hashable, step: Step) -> None:  # noqa: ARG002 # for CudaGraphs
        step()

    def clear(self) -> None:
        pass


class CudaGraphs:
    """Launches all kernels of a step at once.

    The first step of a key is called, because libraries set themselves up at their first call. The second one is
    captured. A capture takes about as long as 10 calls.

    All graphs share one pool of memory. That is safe, because no tensor that is made during a step outlives it.
    """

    def __init__(self, device: torch.device) -> None:
        # Libraries have a workspace for each stream. So steps are called and captured on the same one.
        self._stream = torch.cuda.Stream(device)
        self.clear()

    @contextmanager
    def active(self) -> Iterator[None]:
        outside = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            yield
        outside.wait_stream(self._stream)

    def run(self, key: Hashable, step: Step) -> None:
        if key not in self._graphs:
            if len(self._graphs) == MAX_GRAPHS:
                self.clear()
            step()
            self._graphs[key] = None
            return
        graph = self._graphs[key]
        if graph is None:
            graph = self._graphs[key] = self._captured(step)
        graph.replay()

    def clear(self) -> None:
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph | None] = {}
        self._pool = torch.cuda.graph_pool_handle()

    def _captured(self, step: Step) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may use the GPU meanwhile.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                step()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
            raise UserError(f"engine cuda_graphs cannot capture a step on this GPU ({reason}): choose torch") from error
        return graph


def best_replay(device: torch.device) -> Replay:
    """CUDA graphs, or calls on other devices."""
    return CudaGraphs(device) if device.type == "cuda" else Calls()
