"""The learning rate of section 5.3 as a function of the optimizer step."""


def learning_rate(step: int, *, d_model: int, warmup_steps: int, scale: float = 1.0) -> float:
    """Equation (3) times `scale`: d_model^-0.5 min(step^-0.5, step warmup_steps^-1.5). Steps count from 1."""
    return scale * d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)
