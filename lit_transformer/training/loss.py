"""Label-smoothed cross-entropy (section 5.4) from decoder states, without holding all logits at once.

It returns sums, because only the training step knows over how many tokens to average.

Legend: P target positions (batch x length), R rows of a chunk, D d_model, V vocabulary.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Number of logits in memory at a time. A CPU is fastest if they fit into its cache: on one core, 2.6 times as fast as
# all at once. A GPU needs large products, and 2^28 float32 logits are 1 GiB.
LOGITS_PER_CHUNK = {"cpu": 2**21}
LOGITS_PER_CHUNK_ELSEWHERE = 2**28
LEAST_ROWS = 256
"""Rows of a chunk with a large vocabulary, at least: each chunk adds to the gradient of the whole matrix. With 37,000
tokens and d_model 512 in bfloat16, 256 rows are 1.9 times as fast as the 56 that fit into the cache."""


class LossSums(NamedTuple):
    """Sums over the target positions that are not padding."""

    smoothed: Tensor
    """The loss that training minimizes. It has a gradient."""
    nll: Tensor
    """Negative log-likelihood in nats, without smoothing or gradient. The exponential of its mean is the perplexity."""


def smoothed_cross_entropy(
    states_PD: Tensor, weight_VD: Tensor, target_P: Tensor, *, pad_id: int, epsilon: float
) -> LossSums:
    """Cross-entropy of softmax(states weight^T) against (1 - epsilon) onehot(target) + epsilon / V.

    The smoothing mass goes to all V classes, as in `torch.nn.functional.cross_entropy`. Positions whose target is
    `pad_id` do not count. Softmax and loss are computed in float32 at least.

    Args:
        states_PD: Decoder states before the projection to the vocabulary.
        weight_VD: The projection, which is the embedding matrix.
        target_P: The tokens to predict.
        pad_id: Id of padding.
        epsilon: Smoothing mass, 0.1 in the paper.

    Returns:
        The sums over all positions that are not padding.
    """
    # Inside `forward` gradients are always off. And under `no_grad` parameters still have `requires_grad`.
    with_gradient = torch.is_grad_enabled()
    sums = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states_PD, weight_VD, target_P, pad_id, epsilon, with_gradient
    )
    return LossSums(*sums)


def whole_cross_entropy(
    states_PD: Tensor, weight_VD: Tensor, target_P: Tensor, *, pad_id: int, epsilon: float
) -> LossSums:
    """The same as `smoothed_cross_entropy`, from all logits at once.

    It is for PyTorch's compiler, which fuses its passes over the logits. Eager, it takes three times the memory.
    """
    logits_PV = F.linear(states_PD, weight_VD)
    logits_PV = logits_PV.to(torch.promote_types(logits_PV.dtype, torch.float32))
    smoothed = F.cross_entropy(logits_PV, target_P, ignore_index=pad_id, label_smoothing=epsilon, reduction="sum")
    nll = F.cross_entropy(logits_PV.detach(), target_P, ignore_index=pad_id, reduction="sum")
    return LossSums(smoothed, nll)


class _Projection(NamedTuple):
    """The projection to the vocabulary in the dtypes of the computation."""

    weight_VD: Tensor
    factor_VD: Tensor
    """The matrix in the dtype of products."""
    mean_D: Tensor
    """The mean of all rows, in the dtype of sums."""


class _Gradients(NamedTuple):
    """The gradients of the smoothed loss, in the dtype of sums."""

    states_PD: Tensor
    weight_VD: Tensor


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of rows. The logits of a chunk are computed once, used and freed.

    States and weight may differ in dtype. Under FSDP in mixed precision the weight is bfloat16, and a layer norm
    returns float32 states. Products have the dtype of autocast, or else the wider of the two. All sums are float32 at
    least. A gradient is rounded to the dtype of its input once, at the end.
    """

    @staticmethod
    def forward(
        ctx: Any,
        states_PD: Tensor,
        weight_VD: Tensor,
        target_P: Tensor,
        pad_id: int,
        epsilon: float,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        device = states_PD.device.type
        wider = torch.promote_types(states_PD.dtype, weight_VD.dtype)
        product_dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else wider
        sum_dtype = torch.promote_types(wider, torch.float32)
        vocab_size = weight_VD.shape[0]
        smoothed = torch.zeros((), dtype=sum_dtype, device=states_PD.device)
        nll = torch.zeros_like(smoothed)
        gradients = None
        if with_gradient and any(ctx.needs_input_grad):
            gradients = _Gradients(
                torch.empty_like(states_PD, dtype=sum_dtype), torch.zeros_like(weight_VD, dtype=sum_dtype)
            )
        rows = max(LEAST_ROWS, LOGITS_PER_CHUNK.get(device, LOGITS_PER_CHUNK_ELSEWHERE) // vocab_size)
        with torch.autocast(device, enabled=False):
            projection = _Projection(weight_VD, weight_VD.to(product_dtype), weight_VD.mean(dim=0, dtype=sum_dtype))
            for begin in range(0, len(states_PD), rows):
                chunk = slice(begin, begin + rows)
                sums = _chunk_sums(states_PD, projection, target_P, chunk, pad_id, epsilon, gradients)
                smoothed += sums.smoothed
                nll += sums.nll
            if gradients is not None:
                real_PD = states_PD.to(sum_dtype) * (target_P != pad_id)[:, None]
                grad_weight_VD = gradients.weight_VD
                grad_weight_VD -= epsilon / vocab_size * real_PD.sum(dim=0)
                grad_weight_VD.index_add_(0, target_P, real_PD, alpha=epsilon - 1)
                ctx.save_for_backward(*gradients)
                ctx.dtypes = states_PD.dtype, weight_VD.dtype
        ctx.mark_non_differentiable(nll)
        return smoothed, nll

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_smoothed: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grad_states_PD, grad_weight_VD = (
            (gradient * grad_smoothed).to(dtype) for gradient, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        )
        return grad_states_PD, grad_weight_VD, None, None, None, None


def _chunk_sums(
    states_PD: Tensor,
    projection: _Projection,
    target_P: Tensor,
    chunk: slice,
    pad_id: int,
    epsilon: float,
    gradients: _Gradients | None,
) -> LossSums:
    """Return the sums over a chunk of rows, and write its part of the gradients into `gradients`.

    This is a function so that the logits are freed when it returns.
    """
    weight_VD, factor_VD, mean_D = projection
    sum_dtype, product_dtype = mean_D.dtype, factor_VD.dtype
    states_RD, target_R = states_PD[chunk], target_P[chunk]
    real_R1 = (target_R != pad_id).to(sum_dtype)[:, None]
    logits_RV = F.linear(states_RD.to(product_dtype), factor_VD).to(sum_dtype)
    largest_R1 = logits_RV.amax(dim=1, keepdim=True)
    target_logit_R1 = logits_RV.gather(1, target_R[:, None])
    exp_RV = logits_RV.sub_(largest_R1).exp_()
    exp_sum_R1 = exp_RV.sum(dim=1, keepdim=True)
    log_z_R1 = exp_sum_R1.log() + largest_R1
    nll_R1 = log_z_R1 - target_logit_R1
    # The mean logit is the state times the mean row of the weights.
    states_RD = states_RD.to(sum_dtype)
    uniform_R1 = log_z_R1 - (states_RD @ mean_D)[:, None]
    smoothed = (((1 - epsilon) * nll_R1 + epsilon * uniform_R1) * real_R1).sum()
    if gradients is not None:
        # d loss / d logits = softmax - smoothed target. Only softmax (exp / sum) needs the whole chunk. The two parts
        # of the smoothed target are products with one row of the weights and with their mean.
        exp = exp_RV.to(product_dtype)
        scale_R1 = real_R1 / exp_sum_R1
        right_RD = (1 - epsilon) * weight_VD[target_R].to(sum_dtype) + epsilon * mean_D
        gradients.states_PD[chunk] = (exp @ factor_VD) * scale_R1 - right_RD * real_R1
        gradients.weight_VD.add_(exp.T @ (states_RD * scale_R1).to(product_dtype))
    return LossSums(smoothed, (nll_R1 * real_R1).sum())
