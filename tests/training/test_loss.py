import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lit_transformer.training import loss
from lit_transformer.training.loss import LossSums, smoothed_cross_entropy, whole_cross_entropy

pytestmark = pytest.mark.usefixtures("device")

P, D, V, PAD_ID, EPSILON = 31, 7, 13, 2, 0.1


def inputs(dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if dtype is None else dtype
    states_PD = torch.randn(P, D, dtype=dtype, requires_grad=True)
    weight_VD = torch.randn(V, D, dtype=dtype, requires_grad=True)
    target_P = torch.randint(0, V, (P,))
    target_P[[0, 5, 17, 30]] = PAD_ID
    return states_PD, weight_VD, target_P


def sums(states_PD: Tensor, weight_VD: Tensor, target_P: Tensor) -> LossSums:
    return smoothed_cross_entropy(states_PD, weight_VD, target_P, pad_id=PAD_ID, epsilon=EPSILON)


def test_three_positions_over_five_pieces_by_hand() -> None:
    """With the unit matrix as projection the states are the logits; the last position is padding."""
    logits = [[math.log(1), math.log(2), math.log(3), math.log(4), math.log(10)], [0.0] * 5, [9.0, 8.0, 7.0, 6.0, 5.0]]
    result = smoothed_cross_entropy(torch.tensor(logits), torch.eye(5), torch.tensor([4, 1, 0]), pad_id=0, epsilon=0.25)
    # The first position's probabilities are 1/20, 2/20, 3/20, 4/20, 10/20, the second's all 1/5.
    nll = [math.log(2), math.log(5)]
    uniform = [sum(math.log(20 / weight) for weight in (1, 2, 3, 4, 10)) / 5, math.log(5)]
    assert result.nll.item() == pytest.approx(sum(nll), rel=1e-6)
    assert result.smoothed.item() == pytest.approx(0.75 * sum(nll) + 0.25 * sum(uniform), rel=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 30, P, 1000])
def test_values_and_gradients_equal_torch_for_every_chunk_size(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loss.LOGITS_PER_CHUNK, torch.get_default_device().type, rows * V)
    monkeypatch.setattr(loss, "LEAST_ROWS", 1)
    states_PD, weight_VD, target_P = inputs()
    result = sums(states_PD, weight_VD, target_P)
    logits_PV = states_PD @ weight_VD.T
    expected = F.cross_entropy(logits_PV, target_P, ignore_index=PAD_ID, label_smoothing=EPSILON, reduction="sum")
    expected_nll = F.cross_entropy(logits_PV, target_P, ignore_index=PAD_ID, reduction="sum")
    torch.testing.assert_close(result.smoothed, expected, rtol=1e-13, atol=0.0)
    torch.testing.assert_close(result.nll, expected_nll, rtol=1e-13, atol=0.0)
    assert not result.nll.requires_grad
    grads = torch.autograd.grad(0.37 * result.smoothed, (states_PD, weight_VD))
    expected_grads = torch.autograd.grad(0.37 * expected, (states_PD, weight_VD))
    torch.testing.assert_close(grads, expected_grads, rtol=0.0, atol=1e-13)


def test_all_logits_at_once_give_the_same() -> None:
    states_PD, weight_VD, target_P = inputs()
    expected = sums(states_PD, weight_VD, target_P)
    result = whole_cross_entropy(states_PD, weight_VD, target_P, pad_id=PAD_ID, epsilon=EPSILON)
    torch.testing.assert_close(result, expected, rtol=1e-13, atol=0.0)
    assert not result.nll.requires_grad
    grads, expected_grads = (
        torch.autograd.grad(0.37 * each.smoothed, (states_PD, weight_VD)) for each in (result, expected)
    )
    torch.testing.assert_close(grads, expected_grads, rtol=0.0, atol=1e-13)
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        mixed = whole_cross_entropy(states_PD.float(), weight_VD.float(), target_P, pad_id=PAD_ID, epsilon=EPSILON)
    assert mixed.smoothed.dtype == mixed.nll.dtype == torch.float32


def test_gradients_equal_differences(device: torch.device) -> None:
    if device.type == "mps":
        pytest.skip("differences need float64")
    states_PD, weight_VD, target_P = inputs()
    assert torch.autograd.gradcheck(
        lambda states_PD, weight_VD: sums(states_PD, weight_VD, target_P).smoothed, (states_PD, weight_VD)
    )


def test_padding_counts_nothing() -> None:
    states_PD, weight_VD, target_P = inputs()
    result = sums(states_PD, weight_VD, target_P)
    real_P = target_P != PAD_ID
    without = sums(states_PD[real_P], weight_VD, target_P[real_P])
    torch.testing.assert_close(result, without, rtol=1e-13, atol=0.0)
    assert torch.autograd.grad(result.smoothed, states_PD)[0][~real_P].abs().max() == 0.0
    # What a rank without sentences has: no loss, and gradients that are zeros, not missing.
    nothing = sums(states_PD, weight_VD, torch.full_like(target_P, PAD_ID))
    assert (nothing.smoothed.item(), nothing.nll.item()) == (0.0, 0.0)
    grads = torch.autograd.grad(nothing.smoothed, (states_PD, weight_VD))
    assert all(grad.abs().max() == 0.0 for grad in grads)


def test_mixed_precision_multiplies_in_bfloat16_and_sums_in_float32() -> None:
    states_PD, weight_VD, target_P = inputs(torch.float32)
    expected = sums(states_PD, weight_VD, target_P)
    expected_grads = torch.autograd.grad(expected.smoothed, (states_PD, weight_VD))
    with torch.autocast(torch.get_default_device().type, torch.bfloat16):
        result = sums(states_PD, weight_VD, target_P)
    logits_PV = F.linear(states_PD.bfloat16(), weight_VD.bfloat16()).float()
    expected_nll = F.cross_entropy(logits_PV, target_P, ignore_index=PAD_ID, reduction="sum")
    torch.testing.assert_close(result.nll, expected_nll.detach(), rtol=1e-5, atol=0.0)
    assert result.smoothed.dtype == torch.float32
    assert not torch.equal(result.nll, expected.nll)
    torch.testing.assert_close(result, expected, rtol=1e-2, atol=0.0)
    grads = torch.autograd.grad(result.smoothed, (states_PD, weight_VD))
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        assert grad.dtype == torch.float32
        assert (grad - expected_grad).norm() < 0.03 * expected_grad.norm()


DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("weight_dtype", DTYPES)
@pytest.mark.parametrize("states_dtype", DTYPES)
def test_states_and_weight_of_any_dtypes(
    states_dtype: torch.dtype, weight_dtype: torch.dtype, autocast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against float64: 512 chunks leave the rounding of one product, because sums are float32 at least."""
    monkeypatch.setitem(loss.LOGITS_PER_CHUNK, torch.get_default_device().type, 8 * V)
    monkeypatch.setattr(loss, "LEAST_ROWS", 1)
    states_PD = torch.randn(4096, D).to(states_dtype).requires_grad_()
    weight_VD = torch.randn(V, D).to(weight_dtype).requires_grad_()
    target_P = torch.randint(0, V, (len(states_PD),))
    exact = states_PD.detach().double().requires_grad_(), weight_VD.detach().double().requires_grad_()
    expected = F.cross_entropy(
        exact[0] @ exact[1].T, target_P, ignore_index=PAD_ID, label_smoothing=EPSILON, reduction="sum"
    )
    with torch.autocast(torch.get_default_device().type, torch.bfloat16, enabled=autocast):
        result = sums(states_PD, weight_VD, target_P)
    assert result.smoothed.dtype == result.nll.dtype == torch.float32
    in_bfloat16 = autocast or states_dtype == weight_dtype == torch.bfloat16
    assert result.smoothed.item() == pytest.approx(expected.item(), rel=1e-3 if in_bfloat16 else 1e-5)
    (0.37 * result.smoothed).backward()
    (0.37 * expected).backward()
    for given, oracle in zip((states_PD, weight_VD), exact, strict=True):
        assert given.grad is not None
        assert oracle.grad is not None
        assert given.grad.dtype == given.dtype
        rounding = 0.02 if in_bfloat16 or given.dtype == torch.bfloat16 else 1e-5
        assert (given.grad.double() - oracle.grad).norm() < rounding * oracle.grad.norm()


class LiveBytes(TorchDispatchMode):
    """The most bytes that tensors made in this context have held at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._storages: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._storages[StorageWeakRef(storage)] = storage.nbytes()
        self._storages = {storage: size for storage, size in self._storages.items() if not storage.expired()}
        self.most = max(self.most, sum(self._storages.values()))
        return result


@pytest.mark.parametrize(("autocast", "copies"), [(False, 1.0), (True, 1.5)])
def test_one_chunk_of_logits_is_held_at_a_time(autocast: bool, copies: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32; in mixed precision they come and go in bfloat16. What else there is, is small beside them."""
    rows, vocab_size, d_model = 64, 1009, 2
    monkeypatch.setitem(loss.LOGITS_PER_CHUNK, torch.get_default_device().type, rows * vocab_size)
    monkeypatch.setattr(loss, "LEAST_ROWS", 1)
    states_PD = torch.randn(5 * rows, d_model, requires_grad=True)
    weight_VD = torch.randn(vocab_size, d_model, requires_grad=True)
    target_P = torch.randint(0, vocab_size, (len(states_PD),))
    with LiveBytes() as live, torch.autocast(torch.get_default_device().type, torch.bfloat16, enabled=autocast):
        sums(states_PD, weight_VD, target_P)
    chunk = 4 * rows * vocab_size
    assert copies * chunk <= live.most < (copies + 0.3) * chunk


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_validation_computes_no_gradients(mode: type[torch.no_grad | torch.inference_mode]) -> None:
    states_PD, weight_VD, target_P = inputs()
    expected = sums(states_PD, weight_VD, target_P)
    with mode(), FlopCounterMode(display=False) as counter:
        result = sums(states_PD, weight_VD, target_P)
    assert counter.get_total_flops() == 2 * P * D * V
    assert not result.smoothed.requires_grad
    assert (result.smoothed.item(), result.nll.item()) == (expected.smoothed.item(), expected.nll.item())


def test_a_large_vocabulary_does_not_make_chunks_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk adds to the gradient of the whole matrix."""
    monkeypatch.setitem(loss.LOGITS_PER_CHUNK, torch.get_default_device().type, 1)
    rows: list[int] = []
    linear = F.linear

    def counted(states: Tensor, weight: Tensor) -> Tensor:
        rows.append(len(states))
        return linear(states, weight)

    monkeypatch.setattr(F, "linear", counted)
    smoothed_cross_entropy(torch.randn(600, D), torch.randn(V, D), torch.randint(V, (600,)), pad_id=PAD_ID, epsilon=0.1)
    assert rows == [256, 256, 88]
