"""Weights in half precision: `trainer.precision` bf16-true trains, 16-true is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from lit_transformer.batch import EOS_ID, make_batch
from lit_transformer.decoding.transformer_search import search_batch
from lit_transformer.model.config import PositionScheme, TransformerConfig
from lit_transformer.search_settings import SearchSettings
from lit_transformer.training.loss import LossSums
from lit_transformer.training.translation import LitTransformer
from tests.helpers.corpora import make_corpus
from tests.helpers.runs import fit

IDS = np.random.default_rng(0).integers(4, 31, (7, 11))
IDS[:, -1] = EOS_ID
BATCH = make_batch(IDS, IDS[::-1].copy())


@contextmanager
def bfloat16() -> Iterator[None]:
    """What Lightning does around a step."""
    former = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        yield
    finally:
        torch.set_default_dtype(former)


@pytest.mark.parametrize("scheme", get_args(PositionScheme))
def test_bfloat16_loses_digits_and_nothing_else(scheme: PositionScheme) -> None:
    config = TransformerConfig(d_model=32, d_ff=40, num_heads=3, d_k=6, d_v=5, num_layers=2, dropout=0.0)
    config = TransformerConfig(**{**vars(config), "positions": scheme})
    module = LitTransformer(config, vocab_size=31)
    expected = module.loss_sums(BATCH).smoothed
    module.to(torch.bfloat16)
    with bfloat16():
        smoothed = module.loss_sums(BATCH).smoothed
        smoothed.backward()
        found = search_batch(module.transformer.eval(), BATCH.source_BS, SearchSettings(beam_size=2))
    assert smoothed.dtype == torch.float32
    torch.testing.assert_close(smoothed, expected, rtol=0.01, atol=0.0)
    for weight in module.parameters():
        assert weight.grad is not None
        assert weight.grad.dtype == torch.bfloat16
        assert weight.grad.isfinite().all()
    assert all(isinstance(best[0].score, float) for best in found)


def sums_of(loss: float, *, num_tokens: int) -> LossSums:
    total = torch.tensor(loss * num_tokens, dtype=torch.float32)
    return LossSums(total, total)


def test_validation_adds_up_in_float32() -> None:
    """In bfloat16 the count of tokens would stop growing at 256 batches."""
    module = LitTransformer(TransformerConfig(d_model=8, d_ff=8, num_heads=2, num_layers=1), vocab_size=31)
    module.to(torch.bfloat16)
    with bfloat16():
        module.on_validation_epoch_start()
        for _ in range(300):
            module.val_losses.update(sums_of(1.0, num_tokens=1001), 1001)
        module.val_losses.update(sums_of(2.0, num_tokens=300 * 1001), 300 * 1001)
        assert module.val_losses.compute()["val/loss"].item() == pytest.approx(1.5, rel=1e-6)


def test_float16_weights_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", trainer__precision="16-true", trainer__max_steps=2)
    assert status.value.code == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert "precision is 16-true" in last
    assert not list((tmp_path / "runs").rglob("*.ckpt"))
