"""A packed batch has the loss and the gradients of the padded one."""

import dataclasses
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest
import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from lit_transformer.batch import EOS_ID, PAD_ID, Batch, filler_row, make_batch
from lit_transformer.data.packing import PackedPlan
from lit_transformer.errors import UserError
from lit_transformer.model.config import Norm, PositionScheme, TransformerConfig
from lit_transformer.training.translation import LitTransformer

V = 43
CONFIG = TransformerConfig(d_model=22, d_ff=13, num_heads=2, num_layers=2, d_k=6, d_v=5, dropout=0.0, max_positions=37)
SOURCE_LENGTHS, TARGET_LENGTHS = np.array([7, 3, 11, 1, 31, 5]), np.array([5, 13, 2, 1, 29, 17])


def padded_ids(lengths: Any) -> Any:
    ids = np.random.default_rng(1).integers(EOS_ID + 1, V, (len(lengths), lengths.max()))
    place = np.arange(ids.shape[1])
    ids[place == lengths[:, None] - 1] = EOS_ID
    ids[place >= lengths[:, None]] = PAD_ID
    return ids


def packed(batch: Batch) -> Batch:
    return PackedPlan(SOURCE_LENGTHS, TARGET_LENGTHS, 97, 1).lay_out(batch, 1)


@pytest.fixture
def batches(device: torch.device) -> list[Batch]:
    """The same pairs, padded and packed."""
    with torch.device("cpu"):  # as data workers make them
        padded = make_batch(padded_ids(SOURCE_LENGTHS), padded_ids(TARGET_LENGTHS))
        made = [padded, packed(padded)]
    return [move_data_to_device(batch, device) for batch in made]


def loss_and_gradients(module: LitTransformer, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    module.zero_grad()
    sums = module.loss_sums(batch)
    sums.smoothed.backward()
    gradients = {name: weight.grad.clone() for name, weight in module.named_parameters() if weight.grad is not None}
    return torch.stack([sums.smoothed.detach(), sums.nll]), gradients


@pytest.mark.parametrize(("norm", "positions"), list(product(get_args(Norm), get_args(PositionScheme))))
def test_loss_and_gradients_are_those_of_the_padded_batch(
    norm: Norm, positions: PositionScheme, batches: list[Batch]
) -> None:
    module = LitTransformer(dataclasses.replace(CONFIG, norm=norm, positions=positions), vocab_size=V).double()
    (loss, gradients), (packed_loss, packed_gradients) = (loss_and_gradients(module, batch) for batch in batches)
    torch.testing.assert_close(packed_loss, loss, rtol=1e-6, atol=0.0)
    assert gradients.keys() == packed_gradients.keys() == dict(module.named_parameters()).keys()
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        assert scale > 0.0
        torch.testing.assert_close(packed_gradients[name], gradient, rtol=0.0, atol=1e-5 * scale)


@pytest.mark.usefixtures("device")
def test_a_device_without_sentences_has_no_loss_and_no_gradient() -> None:
    module = LitTransformer(CONFIG, vocab_size=V)
    with torch.device("cpu"):
        filler = packed(make_batch(*filler_row()))
    losses, gradients = loss_and_gradients(module, move_data_to_device(filler, module.device))
    assert losses.tolist() == [0.0, 0.0]
    assert all(not gradient.any() for gradient in gradients.values())


def test_a_sentence_beyond_learned_positions_is_named(batches: list[Batch]) -> None:
    module = LitTransformer(dataclasses.replace(CONFIG, positions="learned", max_positions=30), vocab_size=V)
    with pytest.raises(UserError, match=r"\b31 tokens\b.*\bmax_positions 30\b"):
        module.loss_sums(batches[1])


def test_half_precision_on_a_gpu(batches: list[Batch], device: torch.device) -> None:
    """There, PyTorch has a kernel for packed rows."""
    if device.type != "cuda":
        pytest.skip("no other device has the kernel")
    config = dataclasses.replace(CONFIG, d_model=64, d_k=32, d_v=32)
    module = LitTransformer(config, vocab_size=V)
    with torch.autocast("cuda", torch.bfloat16):
        padded, packed = (loss_and_gradients(module, batch) for batch in batches)
    torch.testing.assert_close(packed[0], padded[0], rtol=1e-2, atol=0.0)
    for name, gradient in padded[1].items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(packed[1][name], gradient, rtol=0.0, atol=0.1 * scale)
