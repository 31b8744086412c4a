"""A training step and a validation under CUDA's autocast, which no CPU has: the dtypes must fit together."""

from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lit_transformer.batch import EOS_ID, Batch, TextBatch, make_batch
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.model import attention
from lit_transformer.model.attention import fused_attention
from lit_transformer.model.config import Norm, PositionScheme, TransformerConfig
from lit_transformer.training.translation import LitTransformer
from tests.helpers.cuda_autocast import cuda_autocast

VOCAB_SIZE = 17


def batch() -> Batch:
    """Sentences of several lengths."""
    source, target = torch.randint(EOS_ID + 1, VOCAB_SIZE, (2, 13, 7)).numpy()
    for row, length in enumerate([2, 3, 4, 5, 6, 7] * 2):
        source[row, length - 1 :], target[row, length - 2 :] = 0, 0
        source[row, length - 2] = target[row, length - 2] = EOS_ID
    return make_batch(source, target, step_target_tokens=53)


def make_module(config: TransformerConfig) -> LitTransformer:
    """The same weights at every call."""
    torch.manual_seed(0)
    module = LitTransformer(config, vocab_size=VOCAB_SIZE)
    tokenizer: Any = SimpleNamespace(
        decode=lambda translations: ["text"] * len(translations), has_known=lambda token_ids: True
    )
    module.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=0,
        global_step=0,
        world_size=1,
        accumulate_grad_batches=1,
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
    module.vocabularies = Vocabularies.shared(tokenizer)
    return module


def step(module: LitTransformer, micro_batch: Batch) -> tuple[float, Tensor]:
    """The loss of a training step, and all of its gradients in one vector."""
    loss = module.training_step(micro_batch, 0)
    loss.backward()
    gradients = [weight.grad.float().flatten() for weight in module.parameters() if weight.grad is not None]
    assert len(gradients) == len(list(module.parameters()))
    return loss.item(), torch.cat(gradients)


CASES: list[tuple[Norm, PositionScheme, torch.dtype, torch.dtype]] = [
    *(("post", positions, torch.bfloat16, torch.bfloat16) for positions in get_args(PositionScheme)),
    ("pre", "rotary", torch.bfloat16, torch.bfloat16),
    ("post", "sinusoidal", torch.bfloat16, torch.float32),
    ("post", "sinusoidal", torch.float16, torch.float32),
    ("post", "sinusoidal", torch.float16, torch.float16),
]


@pytest.mark.parametrize(("norm", "positions", "autocast_dtype", "weight_dtype"), CASES)
def test_mixed_precision_trains_and_validates(
    norm: Norm,
    positions: PositionScheme,
    autocast_dtype: torch.dtype,
    weight_dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With float32 weights as on one GPU, and with weights of autocast's dtype as under FSDP."""
    config = TransformerConfig(d_model=24, d_ff=20, num_heads=2, num_layers=2, norm=norm, positions=positions)
    exact, mixed = make_module(config), make_module(config)
    mixed.transformer.to(weight_dtype)
    monkeypatch.setattr(attention, "attend", fused_attention)  # as on a GPU
    micro_batch = batch()
    loss, gradient = step(exact, micro_batch)
    with cuda_autocast(autocast_dtype):
        mixed_loss, mixed_gradient = step(mixed, micro_batch)
    assert mixed_loss == pytest.approx(loss, rel=0.02)
    assert (mixed_gradient - gradient).norm() < 0.2 * gradient.norm()
    exact.eval()
    mixed.eval()
    text_batch = TextBatch(micro_batch, (0, 1), ("text", "text"), ("text", "text"))
    with torch.inference_mode():
        exact.validation_step(text_batch, 0)
        with cuda_autocast(autocast_dtype):
            mixed.validation_step(text_batch, 0)
    mixed_loss, loss = (module.val_losses.compute()["val/loss"].item() for module in (mixed, exact))
    assert mixed_loss == pytest.approx(loss, rel=0.02)


def test_cuda_casts_what_cpus_do_not() -> None:
    """The stand-in gives the dtypes that PyTorch's documentation names."""
    states, weight = torch.randn(3, 5), torch.randn(5, 5)
    with cuda_autocast(torch.bfloat16):
        product = F.linear(states, weight)
        assert product.dtype == torch.bfloat16
        assert torch.mv(weight, states[0]).dtype == torch.bfloat16
        for result in (
            F.layer_norm(product, [5], weight[0].bfloat16()),
            product.softmax(dim=-1),
            product.exp(),
            product.sum(),
            product**2,
            F.cross_entropy(product, torch.tensor([0, 1, 2])),
        ):
            assert result.dtype == torch.float32
        assert (product + product).dtype == product.relu().dtype == torch.bfloat16
        assert torch.softmax(product.double(), dim=-1).dtype == torch.float64
        with torch.autocast("cpu", enabled=False):
            assert product.softmax(dim=-1).dtype == torch.bfloat16
    assert product.softmax(dim=-1).dtype == torch.bfloat16
