"""The loss and the optimizer alone."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.measure.gpu import timing
from experiments.measure.gpu.timing import DEVICE, SMALL, report
from lit_transformer.batch import EOS_ID, PAD_ID
from lit_transformer.benchmarks.sizes import SIZES
from lit_transformer.model.transformer import Transformer
from lit_transformer.training.loss import smoothed_cross_entropy

VOCAB_SIZE = 1000 if SMALL else 37_000
TOKENS = 700 if SMALL else 25_000

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Decoder states N x D, embedding matrix V x D, targets N -> the sum of the losses."""


def chunked_loss(states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """Ours."""
    return smoothed_cross_entropy(states, weight, target, pad_id=PAD_ID, epsilon=0.1).smoothed


def whole_loss(states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """PyTorch's, on all logits."""
    logits = F.linear(states, weight)
    return F.cross_entropy(logits, target, ignore_index=PAD_ID, label_smoothing=0.1, reduction="sum")


def by_log_sum_exp(states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    """The label-smoothed loss without log-probabilities: log Z - 0.9 (right logit) - 0.1 (mean logit)."""
    logits = F.linear(states, weight).float()
    log_z = logits.logsumexp(dim=-1)
    right = logits.gather(1, target[:, None])[:, 0]
    mean = states.float() @ weight.mean(dim=0)
    return ((log_z - 0.9 * right - 0.1 * mean) * (target != PAD_ID)).sum()


def forward_backward(way: Loss, states: Tensor, weight: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """The gradients."""
    with torch.autocast(DEVICE, torch.bfloat16, cache_enabled=False):
        loss = way(states, weight, target)
    return torch.autograd.grad(loss, (states, weight))


def measure() -> None:
    """Measure the losses on the decoder states of a batch, and the optimizer."""
    d_model = 512
    states = torch.randn(TOKENS, d_model, device=DEVICE, requires_grad=True)
    weight = torch.randn(VOCAB_SIZE, d_model, device=DEVICE).mul_(d_model**-0.5).requires_grad_()
    target = torch.randint(EOS_ID + 1, VOCAB_SIZE, (TOKENS,), device=DEVICE)
    ways: dict[str, Loss] = {
        "chunked (ours)": chunked_loss,
        "whole F.cross_entropy": whole_loss,
        "whole F.cross_entropy compiled": torch.compile(whole_loss, dynamic=False),
        "whole by log-sum-exp compiled": torch.compile(by_log_sum_exp, dynamic=False),
    }
    for way in ways.values():
        forward_backward(way, states, weight, target)

    if not SMALL:
        measure_adam()
    expected = forward_backward(chunked_loss, states, weight, target)
    for name, way in ways.items():
        found = forward_backward(way, states, weight, target)
        differs = max(float((mine - ours).norm() / ours.norm()) for mine, ours in zip(found, expected, strict=True))
        timing.reset_peak()
        milliseconds = timing.milliseconds(partial(forward_backward, way, states, weight, target))
        report(f"loss {name}", ms=milliseconds, peak_gb=timing.peak_gigabytes(), gradients_differ=differs)


def measure_adam() -> None:
    """The optimizer's step."""
    for size in ("base", "big"):
        parameters = list(Transformer(SIZES[size].config, vocab_size=VOCAB_SIZE, pad_id=PAD_ID).to(DEVICE).parameters())
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        for fused in (True, False):
            optimizer = torch.optim.Adam(parameters, fused=fused)
            report(f"adam {size} {'fused' if fused else 'foreach'}", ms=timing.milliseconds(optimizer.step))
