import pytest

from lit_transformer.training.schedule import learning_rate


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
