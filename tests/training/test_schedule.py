from typing import Literal

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from lit_transformer.errors import UserError
from lit_transformer.training.schedule import Rates, learning_rate, share_of_peak


def test_it_rises_linearly_to_the_warm_up_and_falls_with_the_root_after_it() -> None:
    """By hand: d_model 25 gives 1/5, warm-up 100 a peak of 1/5 1/10."""
    rates = [learning_rate(step, d_model=25, warmup_steps=100) for step in (1, 50, 100, 400)]
    assert rates == pytest.approx([0.0002, 0.01, 0.02, 0.01], rel=1e-12)
    assert learning_rate(100, d_model=25, warmup_steps=100, scale=3.0) == pytest.approx(0.06, rel=1e-12)


def test_the_base_model_peaks_at_seven_ten_thousandths() -> None:
    """Section 5.3: 512^-0.5 4000^-0.5."""
    rates = {step: learning_rate(step, d_model=512, warmup_steps=4000) for step in range(1, 100_001, 3)}
    assert max(rates.values()) == pytest.approx(6.9877e-4, rel=1e-3)
    assert max(rates, key=rates.__getitem__) == pytest.approx(4000, abs=3)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_the_schedules_that_end_are_those_of_torch_and_transformers(name: Literal["linear", "cosine"]) -> None:
    warmup_steps, last_step = 5, 23
    mine = [share_of_peak(name, s, warmup_steps=warmup_steps, last_step=last_step) for s in range(1, last_step + 2)]
    optimizers = [torch.optim.SGD([torch.zeros(1)], lr=1.0) for _ in range(2)]
    warm = get_linear_schedule_with_warmup if name == "linear" else get_cosine_schedule_with_warmup
    theirs = warm(optimizers[0], warmup_steps, last_step + 1)
    decay = last_step + 1 - warmup_steps
    falling = LinearLR(optimizers[1], 1.0, 0.0, decay) if name == "linear" else CosineAnnealingLR(optimizers[1], decay)
    rates: list[list[float]] = [[], []]
    for optimizer, schedule, found in zip(optimizers, (theirs, falling), rates, strict=True):
        for _ in range(last_step + 1):
            optimizer.step()
            schedule.step()
            found.append(schedule.get_last_lr()[0])
    assert mine == pytest.approx(rates[0], abs=1e-9)
    assert mine[warmup_steps:] == pytest.approx(rates[1][:decay], abs=1e-6)
    assert mine[-1] == pytest.approx(0.0, abs=1e-9)


def test_the_other_schedules_by_hand() -> None:
    for name, expected in (("constant", [0.5, 1.0, 1.0]), ("inverse_square_root", [0.5, 1.0, 0.5])):
        rates = Rates(d_model=25, warmup_steps=4, learning_rate_scale=1.0, learning_rate=0.3)
        found = [rates.at(step, name, last_step=100.0) for step in (2, 4, 16)]  # type: ignore[arg-type]
        assert found == pytest.approx([0.3 * share for share in expected])


def test_only_one_of_scale_and_rate() -> None:
    with pytest.raises(UserError, match="learning_rate_scale is 2"):
        Rates(d_model=25, warmup_steps=4, learning_rate_scale=2.0, learning_rate=0.3)
