"""oneDNN's cache of kernels on CPUs, and its memory."""

import os
from typing import Any

import lightning as L
import pytest
import torch

from lit_transformer.runs import kernels
from lit_transformer.runs.kernels import (
    BFLOAT16_KERNEL_BYTES,
    CACHED_KERNELS,
    CAPACITY,
    FLOAT32_KERNEL_BYTES,
    few_kernels_cached,
    kernel_bytes,
)


def test_the_environment_is_afterwards_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CAPACITY, raising=False)
    with few_kernels_cached(torch.device("cpu")):
        assert os.environ[CAPACITY] == str(CACHED_KERNELS)
    with few_kernels_cached(torch.device("meta")):
        assert CAPACITY not in os.environ
    monkeypatch.setenv(CAPACITY, "7")
    with few_kernels_cached(torch.device("cpu")):
        assert os.environ[CAPACITY] == "7"
    assert os.environ[CAPACITY] == "7"


@pytest.mark.parametrize(
    ("precision", "onednn", "expected"),
    [
        ("bf16-mixed", False, BFLOAT16_KERNEL_BYTES),
        ("bf16-true", True, BFLOAT16_KERNEL_BYTES),
        ("32-true", True, FLOAT32_KERNEL_BYTES),
        ("32-true", False, 0.0),
        ("64-true", True, 0.0),
    ],
)
def test_kernels_are_those_of_the_precision(
    precision: Any, onednn: bool, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "uses_onednn", lambda: onednn)
    trainer = L.Trainer(accelerator="cpu", precision=precision, logger=False, enable_checkpointing=False)
    assert kernel_bytes(trainer, CACHED_KERNELS // 2) == expected / 2
    assert kernel_bytes(trainer, 3 * CACHED_KERNELS) == expected
