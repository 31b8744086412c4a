from types import SimpleNamespace

import pytest
import torch

from lit_transformer.decoding.devices import MOST_BATCH_TOKENS, default_batch_tokens
from lit_transformer.decoding.settings import BATCH_TOKENS


@pytest.mark.parametrize(
    ("gigabytes", "expected"), [(1, BATCH_TOKENS), (8, 8192), (24, 24576), (80, MOST_BATCH_TOKENS)]
)
def test_a_gpu_searches_in_larger_batches_the_more_memory_it_has(
    gigabytes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = SimpleNamespace(total_memory=gigabytes * 10**9 + 10**8)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: memory)
    assert default_batch_tokens(torch.device("cuda")) == expected
    assert default_batch_tokens(torch.device("cpu")) == BATCH_TOKENS
