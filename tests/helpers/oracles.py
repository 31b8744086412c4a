"""Models of `transformers` with random parameters, and the same parameters in our models."""

from typing import Any

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Our outputs equal those of the oracle up to this."""


def randomize(oracle: Any, dtype: torch.dtype) -> None:
    """Give every number of a model another value, so that each of them matters: also biases, norms and buffers."""
    oracle.to(dtype).eval().set_attn_implementation("eager")
    with torch.no_grad():
        for tensor in (*oracle.parameters(), *oracle.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(0.1 * torch.randn(tensor.shape) + tensor.mean())


def load(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Every parameter gets its value."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights.pop(name))
    assert not weights
