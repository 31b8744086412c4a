"""Batches with the lengths of WMT14, and what a training step on them computes."""

from typing import Any

import numpy as np

from experiments.measure.gpu.timing import DEVICE, SMALL, lengths
from lit_transformer.batch import EOS_ID, PAD_ID, Batch, make_batch
from lit_transformer.data.batching import BatchPlan
from lit_transformer.model.config import TransformerConfig

VOCAB_SIZE = 1000 if SMALL else 37_000
TOKENS = 700 if SMALL else 25_000
STEPS = 2 if SMALL else 20
LONGEST = 256
CONFIGS = {
    "base": TransformerConfig(),
    "big": TransformerConfig(d_model=1024, d_ff=4096, num_heads=16, dropout=0.3),
}
if SMALL:
    CONFIGS = {name: TransformerConfig(d_model=32, d_ff=64, num_heads=4, num_layers=1) for name in CONFIGS}


def batches(multiple: int = 1, part: int = 1) -> list[Batch]:
    """Batches of the plan that training would follow, or one `part`-th of each."""
    source_lengths, target_lengths = lengths(2000 if SMALL else 200_000)
    plan = BatchPlan(source_lengths, target_lengths, TOKENS, seed=1)
    random = np.random.default_rng(0)
    rows_of_steps = [plan.step_rows(step)[::part] for step in range(STEPS)]
    return [batch_of(source_lengths[rows], target_lengths[rows], multiple, random) for rows in rows_of_steps]


def batch_of(source_lengths: Any, target_lengths: Any, multiple: int, random: np.random.Generator) -> Batch:
    sides = []
    for side in (source_lengths, target_lengths):
        ids = random.integers(EOS_ID + 1, VOCAB_SIZE, (len(side), -(-side.max() // multiple) * multiple))
        place = np.arange(ids.shape[1])
        ids[place == side[:, None] - 1] = EOS_ID
        ids[place >= side[:, None]] = PAD_ID
        sides.append(ids)
    return make_batch(*sides, step_target_tokens=int(target_lengths.sum()))


def on_device(batch: Batch) -> Batch:
    names = ("source_BS", "target_input_BT", "target_output_BT")
    return batch._replace(**{name: getattr(batch, name).to(DEVICE) for name in names})


def training_flops(config: TransformerConfig, batch: Batch) -> float:
    """Operations of forward and backward pass for what is not padding: products of the weights, and attention."""
    d_model, d_ff, layers = config.d_model, config.d_ff, config.num_layers
    source = layers * (4 * d_model**2 + 2 * d_model * d_ff + 2 * d_model**2)
    target = layers * (6 * d_model**2 + 2 * d_model * d_ff) + VOCAB_SIZE * d_model
    source_B, target_B = ((ids != PAD_ID).sum(dim=1).double() for ids in (batch.source_BS, batch.target_output_BT))
    attended = float((source_B**2 + target_B**2 + source_B * target_B).sum())
    return (
        6.0 * (batch.num_source_tokens * source + batch.num_target_tokens * target) + 12.0 * d_model * layers * attended
    )
