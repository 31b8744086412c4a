"""What `fit` chooses where the user has not chosen."""

import pytest
import torch

from lit_transformer.cli.training import has_bfloat16


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("instructions", [True, False])
def test_bfloat16_needs_instructions_and_kernels_that_may_use_them(
    instructions: bool, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ONEDNN_MAX_CPU_ISA` forbids them to oneDNN, and then bfloat16 takes 20 times as long as float32."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: kernels)
    assert has_bfloat16("cpu") == (instructions and kernels)
