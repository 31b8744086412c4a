import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lit_transformer.batch import IntArray
from lit_transformer.data.batching import BatchPlan, batch_borders, micro_batch_rows
from lit_transformer.errors import UserError

lengths = st.lists(st.tuples(st.integers(1, 37), st.integers(1, 37)), min_size=1, max_size=101)
budgets = st.integers(37, 211)


def make_plan(pairs: list[tuple[int, int]], tokens_per_batch: int, seed: int = 1) -> BatchPlan:
    source_lengths, target_lengths = np.array(pairs).T
    return BatchPlan(source_lengths, target_lengths, tokens_per_batch, seed)


def random_plan(num_pairs: int = 1009, tokens_per_batch: int = 331, seed: int = 1) -> BatchPlan:
    random = np.random.default_rng(num_pairs)
    source_lengths = random.integers(1, 53, num_pairs)
    target_lengths = np.clip(source_lengths + random.integers(-5, 6, num_pairs), 1, 53)
    return BatchPlan(source_lengths, target_lengths, tokens_per_batch, seed)


def drawn_lengths(num_pairs: int) -> list[NDArray[np.int16]]:
    """Draw lengths roughly like those of WMT14."""
    random = np.random.default_rng(1)
    source = np.minimum(random.gamma(2.0, 15.0, num_pairs).astype(np.int16) + 1, 256)
    return [source, np.clip(source + random.integers(-7, 8, num_pairs), 1, 256).astype(np.int16)]


def epoch(plan: BatchPlan, number: int) -> list[IntArray]:
    return [plan.step_rows(number * plan.num_batches + offset) for offset in range(plan.num_batches)]


@given(lengths, budgets)
def test_each_epoch_has_every_pair_once_within_the_budget(pairs: list[tuple[int, int]], budget: int) -> None:
    plan = make_plan(pairs, budget)
    for number in (0, 1):
        batches = epoch(plan, number)
        assert sorted(np.concatenate(batches)) == list(range(len(pairs)))
        for rows in batches:
            assert 0 < plan.source_lengths[rows].sum() <= budget
            assert 0 < plan.target_lengths[rows].sum() <= budget
            assert (np.diff(plan.target_lengths[rows]) >= 0).all(), "by ascending length"


@given(lengths, budgets)
def test_there_are_as_few_batches_as_possible(pairs: list[tuple[int, int]], budget: int) -> None:
    source_lengths, target_lengths = np.array(sorted(pairs)).T
    borders = batch_borders(source_lengths, target_lengths, np.ones(len(pairs), int), budget)
    groups, counts = np.unique(sorted(pairs), axis=0, return_counts=True)
    assert batch_borders(groups[:, 0], groups[:, 1], counts, budget).tolist() == borders.tolist()
    for begin, end in itertools.pairwise(borders[:-1]):
        with_next = slice(begin, end + 1)
        assert max(source_lengths[with_next].sum(), target_lengths[with_next].sum()) > budget
    assert (borders[0], borders[-1]) == (0, len(pairs))


def test_batches_are_of_similar_lengths() -> None:
    plan = random_plan()
    padded = sum(len(rows) * plan.target_lengths[rows].max() for rows in epoch(plan, 0))
    assert padded < 1.05 * plan.target_lengths.sum()


def test_epochs_and_seeds_differ_in_the_batches_and_in_their_order() -> None:
    plan = random_plan()
    first, second = epoch(plan, 0), epoch(plan, 1)
    other = epoch(random_plan(seed=2), 0)
    for one, two in itertools.combinations((first, second, other), 2):
        assert len(one) == len(two) == plan.num_batches
        assert {frozenset(rows) for rows in one} != {frozenset(rows) for rows in two}
        assert [plan.target_lengths[rows[0]] for rows in one] != [plan.target_lengths[rows[0]] for rows in two]
    by_length = sorted(first, key=lambda rows: plan.target_lengths[rows[0]])
    assert [tuple(rows) for rows in by_length] != [tuple(rows) for rows in first], "not from short to long"


@given(lengths, budgets, st.sampled_from([np.int16, np.int32, np.int64]), st.integers(0, 3))
def test_pairs_are_sorted_by_target_then_source_then_at_random(
    pairs: list[tuple[int, int]], budget: int, kind: type[np.signedinteger], seed: int
) -> None:
    """A resumed run goes on with the same sentences as long as the order is that of this formula."""
    source_lengths, target_lengths = np.array(pairs, dtype=kind).T
    plan = BatchPlan(source_lengths, target_lengths, budget, seed)
    by_length = np.lexsort((source_lengths, target_lengths))
    counts = np.ones(len(pairs), int)
    borders = batch_borders(source_lengths[by_length], target_lengths[by_length], counts, budget)
    for number in (0, 1):
        random = np.random.default_rng((seed, number))
        ties = random.permutation(len(pairs))
        batches = np.split(np.lexsort((ties, source_lengths, target_lengths)), borders[1:-1])
        expected = [batches[index].tolist() for index in random.permutation(len(batches))]
        assert [rows.tolist() for rows in epoch(plan, number)] == expected
    longest = [max(source_lengths[rows].max(), target_lengths[rows].max()) for rows in batches]
    assert plan.longest.tolist() == longest


def test_a_step_does_not_depend_on_earlier_ones() -> None:
    """So a resumed run goes on exactly, from any step."""
    plan = random_plan()
    steps = range(3 * plan.num_batches)
    expected = [plan.step_rows(step) for step in steps]
    again = random_plan()
    for step in reversed(steps):
        assert np.array_equal(again.step_rows(step), expected[step])


@given(st.integers(1, 97), st.integers(1, 23))
def test_micro_batches_are_dealt_out_like_cards(num_rows: int, count: int) -> None:
    rows = np.arange(100, 100 + num_rows)
    parts = [micro_batch_rows(rows, index, count) for index in range(count)]
    assert sorted(np.concatenate(parts)) == list(rows)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    # Neighbors, which are of similar length, go to different micro-batches.
    owner = {row: index for index, part in enumerate(parts) for row in part}
    for begin in range(100, 100 + num_rows, count):
        dealt = [owner[row] for row in range(begin, min(begin + count, 100 + num_rows))]
        assert len(set(dealt)) == len(dealt)


def padded_tokens(plan: BatchPlan, num_micro_batches: int) -> int:
    """Return the largest number of padded tokens on a side of any micro-batch of an epoch."""
    parts = [
        micro_batch_rows(rows, index, num_micro_batches)
        for rows in epoch(plan, 0)
        for index in range(num_micro_batches)
    ]
    return max(
        len(part) * max(plan.source_lengths[part].max(), plan.target_lengths[part].max()) for part in parts if len(part)
    )


@given(lengths, budgets, st.integers(37, 223), st.sampled_from([1, 2, 3, 8]))
def test_accumulation_keeps_every_micro_batch_within_the_bound(
    pairs: list[tuple[int, int]], budget: int, bound: int, world_size: int
) -> None:
    plan = make_plan(pairs, budget)
    accumulation = plan.accumulation(max_tokens_per_device=bound, world_size=world_size)
    assert padded_tokens(plan, accumulation * world_size) <= bound


@given(lengths, budgets, st.integers(37, 223), st.sampled_from([1, 2, 3, 8]))
def test_accumulation_is_as_little_as_possible(
    pairs: list[tuple[int, int]], budget: int, bound: int, world_size: int
) -> None:
    """Exact if the target is the longer side. The longest source may be in a smaller micro-batch."""
    plan = make_plan([(min(pair), max(pair)) for pair in pairs], budget)
    accumulation = plan.accumulation(max_tokens_per_device=bound, world_size=world_size)
    if accumulation > 1:
        assert padded_tokens(plan, (accumulation - 1) * world_size) > bound


@given(lengths, budgets, st.integers(1, 13))
def test_the_largest_micro_batches_need_the_most_memory(
    pairs: list[tuple[int, int]], budget: int, num_micro_batches: int
) -> None:
    plan = make_plan([(min(pair), max(pair)) for pair in pairs], budget)
    largest = plan.largest_micro_batches(num_micro_batches)
    tokens = [len(rows) * plan.target_lengths[rows].max() for rows in largest]
    assert max(tokens) == padded_tokens(plan, num_micro_batches) == plan.micro_batch_tokens(num_micro_batches).max()
    parts = [
        micro_batch_rows(rows, index, num_micro_batches)
        for rows in epoch(plan, 0)
        for index in range(num_micro_batches)
    ]
    attention = max(len(part) * plan.target_lengths[part].max() ** 2 for part in parts if len(part))
    assert max(len(rows) * plan.target_lengths[rows].max() ** 2 for rows in largest) == attention


@pytest.mark.parametrize("world_size", [8, 64, 512])
def test_many_ranks_share_the_same_batches(world_size: int) -> None:
    """Each pair is on one rank, all ranks have equally many but for one, and more ranks accumulate less."""
    source_lengths, target_lengths = drawn_lengths(100_000)
    plan = BatchPlan(source_lengths, target_lengths, 25_000, seed=1)
    accumulation = plan.accumulation(max_tokens_per_device=2048, world_size=world_size)
    assert accumulation == -(-plan.accumulation(max_tokens_per_device=2048, world_size=1) // world_size)
    for step in range(0, plan.num_batches, 10):
        rows = plan.step_rows(step)
        parts = [micro_batch_rows(rows, index, accumulation * world_size) for index in range(accumulation * world_size)]
        assert sorted(np.concatenate(parts)) == sorted(rows)
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


def test_a_budget_below_the_longest_sentence_is_named() -> None:
    pairs = [(3, 5), (41, 7), (11, 13)]
    with pytest.raises(UserError, match=r"\btokens_per_batch is 40\b.* 41\b"):
        make_plan(pairs, 40)
    plan = make_plan(pairs, 41)
    assert plan.accumulation(max_tokens_per_device=41, world_size=1) == 1
    with pytest.raises(UserError, match=r"\bmax_tokens_per_device is 40\b.* 41\b"):
        plan.accumulation(max_tokens_per_device=40, world_size=1)


def test_planning_an_epoch_takes_few_bytes_per_pair() -> None:
    """experiments/measure/scale.py measures the time, which a busy machine would falsify here."""
    source_lengths, target_lengths = drawn_lengths(600_000)
    tracemalloc.start()
    plan = BatchPlan(source_lengths, target_lengths, 25_000, seed=1)
    plan.step_rows(0)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 40 * len(source_lengths)
