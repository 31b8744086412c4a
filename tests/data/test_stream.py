from itertools import islice
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch.utils.data import DataLoader

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, Batch, TextBatch
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.store import TokenStore
from lit_transformer.data.stream import TrainingStream, ValidationBatches, make_batch, validation_batches

NUM_PAIRS = 211


@pytest.fixture(scope="module")
def store() -> TokenStore:
    """Pairs of 1 to 17 pieces; the first source piece tells which pair it is."""
    random = np.random.default_rng(1)
    first, extra = EOS_ID + 1 + np.arange(NUM_PAIRS), random.integers(0, 17, (2, NUM_PAIRS))
    source = [[int(first[row]), *[7] * int(extra[0, row]), EOS_ID] for row in range(NUM_PAIRS)]
    target = [[*[int(first[row])] * int(extra[1, row]), EOS_ID] for row in range(NUM_PAIRS)]
    return TokenStore(Dataset.from_dict({"source": source, "target": target}))


@pytest.fixture(scope="module")
def plan(store: TokenStore) -> BatchPlan:
    return BatchPlan(store.lengths("source"), store.lengths("target"), 89, seed=1)


def micro_batches(
    plan: BatchPlan,
    store: TokenStore,
    num_steps: int,
    *,
    first_step: int = 0,
    accumulation: int = 1,
    world_size: int = 1,
    num_workers: int = 0,
) -> list[list[Batch]]:
    """For every step the micro-batches of all ranks."""
    steps: list[list[Batch]] = [[] for _ in range(num_steps)]
    for rank in range(world_size):
        stream = TrainingStream(
            plan, store, first_step=first_step, accumulation=accumulation, rank=rank, world_size=world_size
        )
        loader = DataLoader(stream, batch_size=None, num_workers=num_workers)
        for number, batch in enumerate(islice(loader, num_steps * accumulation)):
            assert (batch.step, batch.micro_batch) == (first_step + number // accumulation, number % accumulation)
            steps[number // accumulation].append(batch)
    return steps


def pairs(batches: list[Batch]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The sentence pairs in them without padding, in one order for all; filler rows, which ask nothing, left out."""
    rows = [
        tuple(tuple(piece for piece in side.tolist() if piece != PAD_ID) for side in sides)
        for batch in batches
        for sides in zip(batch.source_BS, batch.target_output_BT, strict=True)
    ]
    return sorted(row for row in rows if row[1])  # type: ignore[misc]


def test_what_the_decoder_reads_is_what_it_must_say_one_place_later() -> None:
    source = np.array([[5, 7, EOS_ID], [5, EOS_ID, PAD_ID]])
    target = np.array([[11, EOS_ID, PAD_ID, PAD_ID], [13, 17, 19, EOS_ID]])
    batch = make_batch(source, target, step_target_tokens=23, step=29, micro_batch=31)
    assert batch.source_BS.tolist() == source.tolist()
    assert batch.target_output_BT.tolist() == target.tolist()
    assert batch.target_input_BT.tolist() == [[BOS_ID, 11, EOS_ID, PAD_ID], [BOS_ID, 13, 17, 19]]
    assert (batch.num_source_tokens, batch.num_target_tokens) == (5, 6)
    assert (batch.step_target_tokens, batch.step, batch.micro_batch) == (23, 29, 31)
    assert batch.source_BS.dtype == batch.target_input_BT.dtype == batch.target_output_BT.dtype == torch.int64


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 2), (2, 1), (2, 2), (4, 1), (1, 8), (8, 3)])
def test_any_number_of_devices_takes_the_same_global_batches(
    plan: BatchPlan, store: TokenStore, world_size: int, accumulation: int
) -> None:
    num_steps = plan.num_batches + 3
    alone = micro_batches(plan, store, num_steps)
    shared = micro_batches(plan, store, num_steps, world_size=world_size, accumulation=accumulation)
    for one, many in zip(alone, shared, strict=True):
        assert len(many) == world_size * accumulation
        assert pairs(many) == pairs(one)
        tokens = sum(batch.num_target_tokens for batch in many)
        assert {batch.step_target_tokens for batch in [*one, *many]} == {tokens}
        assert tokens == sum(int((batch.target_output_BT != PAD_ID).sum()) for batch in many)


def test_an_epoch_brings_every_pair_once(plan: BatchPlan, store: TokenStore) -> None:
    batches = [batch for step in micro_batches(plan, store, plan.num_batches) for batch in step]
    seen = pairs(batches)
    assert [source[0] for source, _ in seen] == [EOS_ID + 1 + row for row in range(NUM_PAIRS)]
    for source, target in seen:
        assert set(target[:-1]) <= {source[0]}, "source and target of one pair belong together"
        assert (source[-1], target[-1]) == (EOS_ID, EOS_ID)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more than there are cores, perhaps
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_a_run_resumed_at_any_step_goes_on_exactly_with_any_number_of_workers(
    plan: BatchPlan, store: TokenStore, num_workers: int
) -> None:
    whole = [batch for step in micro_batches(plan, store, plan.num_batches + 5, accumulation=2) for batch in step]
    for first_step in (0, 1, plan.num_batches - 2):
        rest = micro_batches(plan, store, 7, first_step=first_step, accumulation=2, num_workers=num_workers)
        for batch, expected in zip([batch for step in rest for batch in step], whole[2 * first_step :], strict=False):
            for part, expected_part in zip(batch, expected, strict=True):
                assert torch.equal(torch.as_tensor(part), torch.as_tensor(expected_part))


def test_a_rank_without_sentences_gets_a_row_that_asks_nothing(plan: BatchPlan, store: TokenStore) -> None:
    num_rows = [len(plan.step_rows(step)) for step in range(plan.num_batches)]
    steps = micro_batches(plan, store, plan.num_batches, world_size=13)
    fillers = [[batch for batch in step if batch.num_target_tokens == 0] for step in steps]
    assert [len(step) for step in fillers] == [max(0, 13 - rows) for rows in num_rows]
    assert sum(map(len, fillers)) > 0
    for batch in (batch for step in fillers for batch in step):
        assert batch.source_BS.tolist() == [[EOS_ID]], "not padding alone: softmax over nothing is not a number"
        assert batch.target_input_BT.tolist() == [[BOS_ID]]
        assert batch.target_output_BT.tolist() == [[PAD_ID]]
        assert batch.step_target_tokens > 0


def text_batch(*indices: int) -> TextBatch:
    source, target = np.full((len(indices), 2), 5), np.full((len(indices), 3), 7)
    texts = tuple(f"text {index}" for index in indices)
    return TextBatch(make_batch(source, target), indices, texts, texts)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 7])
def test_every_validation_sentence_is_on_one_rank_and_all_ranks_have_as_many_batches(world_size: int) -> None:
    batches = [text_batch(4, 1), text_batch(0), text_batch(3, 2, 6), text_batch(5), text_batch(8, 7)]
    ranks = [ValidationBatches(batches, rank, world_size) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {len(list(rank)) for rank in ranks} == {-(-5 // world_size)}
    seen = [batch for rank in ranks for batch in rank]
    assert sorted(index for batch in seen for index in batch.indices) == list(range(9))
    for batch in seen:
        assert len(batch.references) == len(batch.sources) == len(batch.indices)
        if not batch.indices:
            assert batch.batch.num_target_tokens == 0
            assert (batch.batch.source_BS != PAD_ID).all()
    assert sum(batch.batch.num_target_tokens for batch in seen) == 9 * 3


LETTERS: Any = SimpleNamespace(encode=lambda texts: [[ord(letter) for letter in text] for text in texts])
"""A tokenizer whose tokens are letters."""


def real(rows: torch.Tensor) -> list[list[int]]:
    return [[token for token in row if token != PAD_ID] for row in rows.tolist()]


def test_validation_batches_are_bounded_on_both_sides() -> None:
    """Whichever side is the longer one."""
    random = np.random.default_rng(1)
    texts = [["a" * int(length) for length in random.integers(1, 60, 300)] for _ in range(2)]
    texts[1][7], texts[0][11] = "b" * 938, "b" * 700
    batches, num_cut = validation_batches(*texts, LETTERS, 500)
    assert num_cut == 0
    assert sorted(index for batch in batches for index in batch.indices) == list(range(300))
    for batch in batches:
        for side, ids in enumerate((batch.batch.source_BS, batch.batch.target_output_BT)):
            assert ids.numel() <= 500 or len(ids) == 1
            expected = [[*map(ord, texts[side][index]), EOS_ID] for index in batch.indices]
            assert real(ids) == expected
        assert [batch.sources, batch.references] == [tuple(side[i] for i in batch.indices) for side in texts]
    assert len(batches) < 1.3 * sum(len(text) + 1 for text in texts[0]) / 500 + 30


def test_validation_sentences_beyond_the_last_position_are_cut() -> None:
    sources, references = ["abcdef", "abcde", "ab"], ["ab", "abcdefg", "abc"]
    batches, num_cut = validation_batches(sources, references, LETTERS, 100, longest=6)
    assert num_cut == 2
    [batch] = batches
    rows = dict(zip(batch.indices, zip(*map(real, batch.batch[:3]), strict=True), strict=True))
    a, b, c, d, e, f = map(ord, "abcdef")
    assert rows[0] == ([a, b, c, d, e, EOS_ID], [BOS_ID, a, b, EOS_ID], [a, b, EOS_ID])
    assert rows[1] == ([a, b, c, d, e, EOS_ID], [BOS_ID, a, b, c, d, e], [a, b, c, d, e, f])
    assert batch.references == tuple(references[index] for index in batch.indices), "BLEU wants all of it"
