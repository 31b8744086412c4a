"""What contestants with torch have in common."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from lit_transformer.machine import prepare_process, prepare_products

WATCHED_STEPS = 3


class TorchWork:
    """Work on a device of torch.

    Args:
        device: The device.
        threads: Threads of a CPU.
    """

    def __init__(self, device: str, threads: int) -> None:
        self.device = torch.device(device)
        self.threads = threads

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize(self.device)

    def wake(self, batch: int) -> None:
        """Do nothing, unless a subclass has something to do."""

    def rest(self) -> None:
        """Free the memory that other processes need of the same GPU."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def gpu_facts(self) -> dict[str, Any]:
        """The most memory of a GPU that tensors had."""
        return {"peak_gpu_mb": torch.cuda.max_memory_allocated(self.device) / 1e6} if self.device.type == "cuda" else {}


def count_synchronizations(step: Callable[[int], object]) -> float:
    """How often the host waits for a GPU in a step, apart from copies that a step returns."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            for number in range(WATCHED_STEPS):
                step(number)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught) / WATCHED_STEPS


def set_up_torch(device: str, *, threads: int, is_plain: bool) -> None:
    """Set up torch in this process, as commands do unless `is_plain`. All contestants draw the same weights."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if not is_plain:
        prepare_process()
        if torch.device(device).type == "cpu":
            prepare_products()
