"""oneDNN's cache of kernels on CPUs."""

import os

import pytest
import torch

from lit_transformer.runs.kernels import CACHED_KERNELS, CAPACITY, few_kernels_cached


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
