"""Sentence pairs of the token store as micro-batches for teacher forcing.

Legend: B batch, S source length, T target length.
"""

from dataclasses import dataclass

from lit_transformer.batch import Batch, IntArray, filler_row, make_batch
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.store import TokenStore


@dataclass(frozen=True)
class PairAssembler:
    """Makes micro-batches of sentence pairs.

    Args:
        store: The tokens.
        plan: Lays batches out.
        count: Micro-batches of a step on all devices. 0 if the batches are none of the plan's.
        margin: A batch has more rows than one of the plan's by this factor.
    """

    store: TokenStore
    plan: BatchPlan
    count: int = 0
    margin: float = 1.0

    def num_target_tokens(self, rows: IntArray) -> int:
        """Return the target tokens of these pairs."""
        return int(self.plan.target_lengths[rows].sum())

    def batch(self, rows: IntArray, *, step_target_tokens: int = 0, step: int = 0, micro_batch: int = 0) -> Batch:
        """Return these pairs as a micro-batch."""
        if len(rows):
            source_BS, target_BT = self.store.gather(rows, "source"), self.store.gather(rows, "target")
        else:
            source_BS, target_BT = filler_row()
        batch = make_batch(
            source_BS, target_BT, step_target_tokens=step_target_tokens, step=step, micro_batch=micro_batch
        )
        return self.plan.lay_out(batch, self.count, self.margin)
