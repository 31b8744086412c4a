"""An accelerator for every machine: tensors that say they are on another device, and computations that are strict.

Like Apple's GPUs it has no float64, and like every GPU it refuses tensors of the host beside its own. Its numbers are
computed by the CPU.
"""

import contextlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("lazy")
"""A type of device that torch knows by name and does not use."""


class OnDevice(torch.Tensor):
    """A tensor on `DEVICE` whose data is in the host's memory."""

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> "OnDevice":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            host.shape,
            strides=host.stride(),
            storage_offset=host.storage_offset(),
            dtype=host.dtype,
            device=DEVICE,
        )

    def __init__(self, host: torch.Tensor) -> None:
        self.host = host

    def tolist(self) -> Any:
        return self.host.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise RuntimeError(f"{func}: outside of `Accelerator()`")


def _made_on_the_host(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def made(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        if device != DEVICE:
            return make(data, device=device, **options)
        return make(data, **options).to(DEVICE)

    return made


class Accelerator(TorchDispatchMode):
    """A context in which `DEVICE` exists. It counts copies from the host, because a GPU's queue waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.copies_from_host = 0
        self.patches = pytest.MonkeyPatch()

    def __enter__(self) -> Self:
        self.patches.setattr(torch, "inference_mode", torch.no_grad)  # it cannot make views of wrapped tensors
        self.patches.setattr(torch, "is_autocast_enabled", lambda *_: False)  # it does not know the name
        self.patches.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())
        self.patches.setattr(torch, DEVICE.type, SimpleNamespace(manual_seed=torch.manual_seed), raising=False)
        for name in ("tensor", "as_tensor"):  # what Python gives is made on the host and copied
            self.patches.setattr(torch, name, _made_on_the_host(getattr(torch, name)))
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.patches.undo()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = str(func)
        tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, torch.Tensor)]
        inside = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        goes_to = kwargs.get("device")
        to_device = goes_to == DEVICE if goes_to is not None else bool(inside)
        moves = name.startswith(("aten._to_copy", "aten.copy_"))
        if inside and not moves:
            strangers = [tensor for tensor in tensors if not isinstance(tensor, OnDevice) and tensor.dim() > 0]
            assert not strangers, f"{name}: a tensor on the host beside those on the device"
        if moves and to_device and len(inside) < len(tensors):
            self.copies_from_host += 1
        if goes_to is not None:
            kwargs["device"] = torch.device("cpu")
        host_args, host_kwargs = tree_map_only(OnDevice, lambda tensor: tensor.host, (args, kwargs))
        result = func(*host_args, **host_kwargs)
        if not to_device:
            return result
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                raise TypeError(f"{name}: the device has no float64")
        if func._schema.is_mutable:  # type: ignore[attr-defined]
            return args[0]
        return tree_map_only(torch.Tensor, OnDevice, result)
