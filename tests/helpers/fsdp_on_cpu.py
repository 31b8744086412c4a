"""`python tests/helpers/fsdp_on_cpu.py ...` is `lit_transformer.fit` in which fully sharded training runs on CPUs.

Lightning and torch refuse that for want of streams, events and a second memory to copy to. All of the sharding, the
communication (gloo), the loading and the saving are as ever; what an accelerator does asynchronously is left out.
Mixed precision casts what CUDA casts.
"""

import contextlib
import sys
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import FSDPPrecision
from lightning.pytorch.trainer.connectors.accelerator_connector import _AcceleratorConnector
from torch.distributed.fsdp import FullOptimStateDictConfig, FullStateDictConfig, fully_sharded_data_parallel
from torch.distributed.fsdp._common_utils import _FSDPDeviceHandle

from lit_transformer.fit import main
from tests.helpers.cuda_autocast import cuda_autocast


class Nothing:
    """A stream or an event."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


class Device:
    """torch.cpu, as far as it is like torch.cuda."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def Stream(self, *_: Any, **__: Any) -> Nothing:  # torch's name
        return Nothing()

    Event = current_stream = Stream

    def stream(self, _: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def current_device(self) -> torch.device:
        return torch.device("cpu")


def use_cpu(state: Any, *_: Any) -> Any:
    state._device_handle = _FSDPDeviceHandle(torch.device("cpu"), backend=Device())
    return state


def stay(self: Any, **_: bool) -> None:
    """Keep weights where they are. A copy to the CPU would be the original, which is freed."""
    self.offload_to_cpu = self.rank0_only = False


def forward_context(self: FSDPPrecision) -> contextlib.AbstractContextManager[None]:
    return cuda_autocast(torch.bfloat16) if self.precision == "bf16-mixed" else contextlib.nullcontext()


if __name__ == "__main__":
    patches = pytest.MonkeyPatch()
    patches.setattr(_AcceleratorConnector, "_check_strategy_and_fallback", lambda _: None)
    patches.setattr(fully_sharded_data_parallel, "_init_device_handle", use_cpu)
    patches.setattr(FullStateDictConfig, "__init__", stay)
    patches.setattr(FullOptimStateDictConfig, "__init__", stay)
    patches.setattr(FSDPPrecision, "forward_context", forward_context)
    patches.setattr(torch.Tensor, "record_stream", lambda *_: None)
    main(sys.argv[1:])
