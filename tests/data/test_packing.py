"""Packed micro-batches: the same steps and pairs as without packing, in rows of one size."""

import pickle
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_transformer.batch import EOS_ID, PAD_ID, Batch, filler_row, make_batch
from lit_transformer.data.batching import ORDERS, BatchPlan
from lit_transformer.data.epochs import whole_epochs
from lit_transformer.data.loader import ArrayBatch
from lit_transformer.data.packing import MULTIPLE, PackedPlan
from lit_transformer.data.pairs import PairAssembler
from lit_transformer.data.store import TokenStore
from lit_transformer.data.stream import TrainingStream
from lit_transformer.errors import UserError
from tests.helpers.corpora import write_tokens

NUM_PAIRS = 499

lengths = st.lists(st.tuples(st.integers(1, 37), st.integers(1, 37)), min_size=1, max_size=101)
budgets = st.integers(37, 211)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Pairs of 1 to 37 tokens. The first tokens tell which pair it is."""
    random = np.random.default_rng(1)
    first, extra = EOS_ID + 1 + np.arange(NUM_PAIRS), random.integers(0, 37, (2, NUM_PAIRS))
    sides = [[[*[int(first[row])] * int(extra[side, row]), EOS_ID] for row in range(NUM_PAIRS)] for side in (0, 1)]
    path = tmp_path_factory.mktemp("store") / "tokens.arrow"
    return TokenStore(write_tokens(path, list(zip(*sides, strict=True))))


def make_plan(store: TokenStore, kind: type[BatchPlan], tokens_per_batch: int = 1009) -> BatchPlan:
    return kind(store.lengths("source"), store.lengths("target"), tokens_per_batch, 1)


def micro_batches(
    plan: BatchPlan, store: TokenStore, steps: range, *, accumulation: int = 1, world_size: int = 1
) -> list[list[Batch]]:
    """Return the micro-batches of all ranks for every step."""
    epochs = whole_epochs(plan.num_batches)
    streams = [
        TrainingStream(
            plan,
            PairAssembler(store, plan, accumulation * world_size),
            epochs=epochs,
            accumulation=accumulation,
            rank=rank,
            world_size=world_size,
        )
        for rank in range(world_size)
    ]
    return [[stream.batch(step, part) for stream in streams for part in range(accumulation)] for step in steps]


def sentences(batch: Batch) -> list[tuple[tuple[int, ...], ...]]:
    """Return source, target input and target output of each pair of a batch, padded or packed, sorted."""
    if batch.packing is None:
        rows = zip(*(ids.tolist() for ids in batch[:3]), strict=True)
        lists = [tuple(tuple(token for token in ids if token != PAD_ID) for ids in row) for row in rows]
        found = [(source, target_input[: len(target)], target) for source, target_input, target in lists]
    else:
        source, target = (side.borders_X.diff().tolist() for side in batch.packing[:2])
        sides = zip(batch[:3], (source, target, target), strict=True)
        parts = zip(*(ids[0].split(sizes) for ids, sizes in sides), strict=True)
        found = [tuple(tuple(part.tolist()) for part in pair) for pair in parts]  # type: ignore[misc]
    return sorted(pair for pair in found if any(pair[2]))


@pytest.mark.parametrize(("world_size", "accumulation"), [(1, 1), (1, 3), (2, 2), (3, 1), (8, 3)])
def test_a_step_has_the_pairs_of_the_padded_plan(store: TokenStore, world_size: int, accumulation: int) -> None:
    padded, packed = (make_plan(store, kind) for kind in (BatchPlan, PackedPlan))
    rows = padded.step_rows(5)
    assert np.array_equal(packed.step_rows(5), rows)
    assert isinstance(packed, PackedPlan)
    steps = range(len(ORDERS) * padded.num_batches + 2)
    shape = packed.row_shape(accumulation * world_size)
    for one, many in zip(
        micro_batches(padded, store, steps),
        micro_batches(packed, store, steps, accumulation=accumulation, world_size=world_size),
        strict=True,
    ):
        assert sentences(one[0]) == sorted(pair for batch in many for pair in sentences(batch))
        assert sum(batch.num_source_tokens for batch in many if batch.num_target_tokens) == one[0].num_source_tokens
        assert sum(batch.num_target_tokens for batch in many) == one[0].num_target_tokens
        for batch in many:
            assert batch.step_target_tokens == one[0].num_target_tokens
            assert (batch.source_BS.shape, batch.target_output_BT.shape) == ((1, shape.source), (1, shape.target))
            assert batch.num_positions == shape.source + shape.target


def test_each_rank_has_the_pairs_that_it_has_without_packing(store: TokenStore) -> None:
    padded, packed = (make_plan(store, kind) for kind in (BatchPlan, PackedPlan))
    rows = padded.step_rows(5)
    assert np.array_equal(packed.step_rows(5), rows)
    for rank in range(3):
        one, other = (
            sorted(
                np.concatenate(
                    [plan.micro_batch_rows(rows, plan.longer_sides(rows), part, 2, rank, 3) for part in range(2)]
                )
            )
            for plan in (padded, packed)
        )
        assert one == other


@given(lengths, budgets, st.integers(37, 223), st.sampled_from([1, 2, 3, 8]))
def test_accumulation_is_the_least_within_the_bound(
    pairs: list[tuple[int, int]], budget: int, bound: int, world_size: int
) -> None:
    source, target = np.array(pairs).T
    plan = PackedPlan(source, target, budget, 1)

    def most_tokens(accumulation: int) -> int:
        parts = [
            plan.micro_batch_rows(
                rows := plan.step_rows(step), plan.longer_sides(rows), part, accumulation, rank, world_size
            )
            for step in range(len(ORDERS) * plan.num_batches)
            for part in range(accumulation)
            for rank in range(world_size)
        ]
        return max(int(max(source[part].sum(), target[part].sum())) for part in parts)

    accumulation = plan.accumulation(max_tokens_per_device=bound, world_size=world_size)
    assert most_tokens(accumulation) <= bound
    assert all(most_tokens(fewer) > bound for fewer in range(1, accumulation))
    shape = plan.row_shape(accumulation * world_size)
    assert not shape.source % MULTIPLE
    assert not shape.target % MULTIPLE


@given(lengths, budgets, st.integers(1, 5))
def test_every_sentence_has_tokens_and_none_is_longer_than_the_limit(
    pairs: list[tuple[int, int]], budget: int, count: int
) -> None:
    """Also those that fill the rows. Attention to no token is not a number."""
    source, target = np.array(pairs).T
    plan = PackedPlan(source, target, budget, 1)
    for rows in (plan.step_rows(0)[:count], plan.step_rows(0)[:0]):
        ids = [np.where(np.arange(37) < side[rows, None], 7, PAD_ID) for side in (source, target)]
        batch = plan.lay_out(padded_batch(*ids), count)
        assert batch.packing is not None
        for ids_1X, (positions_1X, borders_X, columns_X) in zip(
            (batch.source_BS, batch.target_output_BT), batch.packing[:2], strict=True
        ):
            assert borders_X[-1] == ids_1X.shape[1]
            assert borders_X.diff().min() > 0
            assert borders_X.diff().max() <= batch.packing.longest
            assert positions_1X.max() < len(columns_X)


def padded_batch(source_BS: Any, target_BT: Any) -> Batch:
    return make_batch(*((source_BS, target_BT) if len(source_BS) else filler_row()))


def test_more_devices_have_the_same_shape_as_more_micro_batches(store: TokenStore) -> None:
    plan = make_plan(store, PackedPlan)
    assert isinstance(plan, PackedPlan)
    [alone] = micro_batches(plan, store, range(1), accumulation=6)
    [shared] = micro_batches(plan, store, range(1), accumulation=2, world_size=3)
    assert {batch.source_BS.shape for batch in alone} == {batch.source_BS.shape for batch in shared}


def test_a_stream_from_any_step_goes_on_exactly(store: TokenStore) -> None:
    plan = make_plan(store, PackedPlan)
    assembler, epochs = PairAssembler(store, plan, 6), whole_epochs(plan.num_batches)
    stream = TrainingStream(plan, assembler, epochs=epochs, accumulation=2, rank=1, world_size=3)
    whole, rest = (list(islice(each, number)) for each, number in ((stream, 14), (stream.from_step(5), 4)))
    for batch, expected in zip(rest, whole[10:], strict=True):
        assert batch[3:8] == expected[3:8]
        for mine, theirs in zip(tensors(batch), tensors(expected), strict=True):
            assert torch.equal(mine, theirs)


def test_packing_takes_fewer_micro_batches(store: TokenStore) -> None:
    padded, packed = (
        make_plan(store, kind).accumulation(max_tokens_per_device=101, world_size=1) for kind in (BatchPlan, PackedPlan)
    )
    assert packed < padded


def test_a_bound_below_the_longest_sentence_is_named() -> None:
    plan = PackedPlan(np.array([3, 41]), np.array([5, 7]), 50, 1)
    with pytest.raises(UserError, match=r"\bmax_tokens_per_device is 40\b.* 41\b"):
        plan.accumulation(max_tokens_per_device=40, world_size=1)


def test_a_larger_batch_for_the_trial_of_memory(store: TokenStore) -> None:
    plan = make_plan(store, PackedPlan)
    [[batch]] = micro_batches(make_plan(store, BatchPlan), store, range(1))
    sizes = [plan.lay_out(batch, 1, margin).num_positions for margin in (1.0, 1.5)]
    assert sizes[1] == pytest.approx(1.5 * sizes[0], rel=0.1)


def test_a_packed_batch_passes_through_a_pipe(store: TokenStore, monkeypatch: pytest.MonkeyPatch) -> None:
    [[batch]] = micro_batches(make_plan(store, PackedPlan), store, range(1))
    assert batch.packing is not None
    received = pickle.loads(pickle.dumps(ArrayBatch(batch)))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 100)
    for copy, extra in ((received.batch(), 0), (received.pin_memory(), 100)):
        assert copy[3:8] == batch[3:8]
        assert copy.packing[2:] == batch.packing[2:]
        for mine, theirs in zip(tensors(copy), tensors(batch), strict=True):
            assert torch.equal(mine, theirs + extra)


def tensors(batch: Batch) -> list[torch.Tensor]:
    assert batch.packing is not None
    return [*batch[:3], *batch.packing.source, *batch.packing.target]
