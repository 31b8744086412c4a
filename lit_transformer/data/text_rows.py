"""Rows of one language as micro-batches of an objective, in training with new noise at each optimizer step."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lit_transformer.batch import EOS_ID, PAD_ID, AnyBatch, IntArray, RestoredBatch, filler_row
from lit_transformer.data.batching import batches_by_length
from lit_transformer.data.objectives import Example, Ids, Objective
from lit_transformer.data.store import TokenStore
from lit_transformer.data.tokenizer import Tokenizer

_VALIDATION_SEED = 0


@dataclass(frozen=True)
class TextAssembler:
    """Makes micro-batches of training rows. The noise of a row depends on the seed, the step and the row alone.

    Args:
        store: The rows.
        objective: What is read and predicted.
        ids: The ids that it needs.
        seed: Determines the noise.
    """

    store: TokenStore
    objective: Objective
    ids: Ids
    seed: int

    def num_target_tokens(self, rows: IntArray) -> int:
        """Return the tokens that are predicted in these rows."""
        return int(self.objective.num_predicted(self.store.lengths("text")[rows].astype(np.int64)).sum())

    def batch(self, rows: IntArray, *, step_target_tokens: int = 0, step: int = 0, micro_batch: int = 0) -> AnyBatch:
        """Return these rows as a micro-batch."""
        tokens, lengths = self.store.gather(rows, "text"), self.store.lengths("text")[rows]
        examples = [
            self.objective.example(row[:length], self.ids, np.random.default_rng((self.seed, step, int(number))))
            for number, row, length in zip(rows, tokens, lengths, strict=True)
        ]
        numbers = {"step_target_tokens": step_target_tokens, "step": step, "micro_batch": micro_batch}
        batch: AnyBatch = self.objective.make(*_inputs_and_outputs(examples), **numbers)
        return batch


def objective_ids(symbols: Sequence[str], tokenizer: Tokenizer) -> Ids:
    """Return the ids that an objective with these symbols needs. The tokenizer must have them."""
    ids = np.array([tokenizer.encode([symbol])[0][-1] for symbol in symbols], np.int64)
    return Ids(ids, np.setdiff1d(np.arange(EOS_ID + 1, tokenizer.vocab_size), ids))


def longest_row(objective: Objective, max_positions: int) -> int:
    """Return the length of the longest row of which nothing is longer than the positions of a model."""
    rows = np.arange(2, max_positions + 2)
    read, predicted = objective.lengths(rows)
    return int(rows[np.maximum(read, predicted) <= max_positions].max(initial=1))


def fixed_examples(rows: Sequence[IntArray], objective: Objective, ids: Ids) -> list[Example]:
    """Return an example of each row, with noise that depends on its number alone."""
    seeds = ((_VALIDATION_SEED, number) for number in range(len(rows)))
    return [objective.example(row, ids, np.random.default_rng(seed)) for row, seed in zip(rows, seeds, strict=True)]


def fixed_batches(rows: Sequence[IntArray], objective: Objective, ids: Ids, batch_tokens: int) -> Iterator[Any]:
    """Yield batches of held-out rows of at most `batch_tokens` padded tokens, the longest rows first."""
    examples = fixed_examples(rows, objective, ids)
    lengths = [max(len(example.input), len(example.output)) for example in examples]
    for numbers in batches_by_length(lengths, batch_tokens):
        yield held_out_batch([examples[number] for number in numbers], objective)


def held_out_batch(examples: Sequence[Example], objective: Objective) -> Any:
    """Return examples as a batch, or a filler if there are none."""
    batch = objective.make(*_inputs_and_outputs(examples))
    if objective.takes_blocks:
        return batch
    restored = _padded([example.restored for example in examples] or [np.zeros(1, bool)])
    return RestoredBatch(batch, torch.from_numpy(restored.astype(bool)))


def _inputs_and_outputs(examples: Sequence[Example]) -> tuple[IntArray, IntArray]:
    if not examples:
        return filler_row()
    return _padded([example.input for example in examples]), _padded([example.output for example in examples])


def _padded(rows: Sequence[Any]) -> IntArray:
    padded = np.full((len(rows), max(map(len, rows))), PAD_ID, np.int64)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = row
    return padded
