"""What a training step promises beyond its gradients, which tests/test_fit.py compares between devices."""

from types import SimpleNamespace

import torch

from lit_transformer.batch import EOS_ID, Batch
from lit_transformer.data.stream import make_batch
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.module import LitTransformer

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
