"""What a training step promises beyond its gradients, which tests/test_fit.py compares between devices."""

from types import SimpleNamespace

import pytest
import torch

from lit_transformer.batch import EOS_ID, Batch
from lit_transformer.data.stream import make_batch
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.module import MAX_SKIPPED_IN_A_ROW, LitTransformer

SMALL = TransformerConfig(d_model=12, d_ff=20, num_heads=2, num_layers=1, dropout=0.3)
VOCAB_SIZE = 17


def batch(*, step: int = 0, micro_batch: int = 0) -> Batch:
    ids = torch.randint(4, VOCAB_SIZE, (5, 7), generator=torch.Generator().manual_seed(0)).numpy()
    ids[:, -1] = EOS_ID
    return make_batch(ids, ids[::-1].copy(), step_target_tokens=35, step=step, micro_batch=micro_batch)


def loss(*, seed: int = 1, rank: int = 0, step: int = 0, micro_batch: int = 0) -> float:
    torch.manual_seed(0)
    module = LitTransformer(SMALL, vocab_size=VOCAB_SIZE, seed=seed)
    # All that a training step asks of a trainer.
    trainer = SimpleNamespace(global_rank=rank, global_step=step, world_size=1, accumulate_grad_batches=1)
    module.trainer = trainer  # type: ignore[assignment]
    torch.seed()  # what came before a step must not matter
    return module.training_step(batch(step=step, micro_batch=micro_batch), 0).item()


def test_dropout_follows_seed_step_micro_batch_and_rank() -> None:
    """And nothing else: a resumed run has it again, and no two devices or micro-batches drop the same units."""
    losses = [loss(), loss(seed=2), loss(rank=1), loss(step=1), loss(micro_batch=1), loss(step=1, micro_batch=1)]
    assert len(set(losses)) == len(losses)
    assert loss() == losses[0]
    assert loss(step=1, micro_batch=1) == losses[-1]


def after_steps(norms: list[float], *, scaler: object | None) -> LitTransformer:
    """A module that has seen gradients of these norms, one a step."""
    module = LitTransformer(SMALL, vocab_size=VOCAB_SIZE)
    trainer = SimpleNamespace(
        precision_plugin=SimpleNamespace(scaler=scaler),
        strategy=SimpleNamespace(reduce=lambda value, reduce_op: value),
        datamodule=SimpleNamespace(describe_step=lambda step: f"the pairs of {step}"),
    )
    module.trainer = trainer  # type: ignore[assignment]
    weight = module.transformer.embedding.weight
    for trainer.global_step, norm in enumerate(norms):
        weight.grad = torch.zeros_like(weight)
        weight.grad[0, 0] = norm
        module.on_before_optimizer_step(torch.optim.SGD([weight]))
    return module


@pytest.mark.parametrize("norm", [float("nan"), float("inf")])
def test_gradients_that_are_not_finite_stop_the_run(norm: float) -> None:
    """The first step is named, whenever somebody asks."""
    after_steps([1.0, 2.0], scaler=None).check_numbers()
    with pytest.raises(UserError, match=r"the gradients of step 2 are not finite.*the pairs of 1$"):
        after_steps([1.0, norm, 3.0, norm], scaler=None).check_numbers()


def test_float16_skips_and_counts_single_steps() -> None:
    overflow = float("inf")
    module = after_steps([1.0, overflow, 1.0, overflow, overflow], scaler=object())
    module.check_numbers()
    assert int(module.skipped_steps) == 3
    with pytest.raises(UserError, match=f"the gradients of step {MAX_SKIPPED_IN_A_ROW + 1} are not finite"):
        after_steps([1.0] + [overflow] * MAX_SKIPPED_IN_A_ROW, scaler=object()).check_numbers()
