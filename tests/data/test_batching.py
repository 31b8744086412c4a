import itertools
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lit_transformer.batch import IntArray
from lit_transformer.data.batching import ORDERS, BatchPlan
from lit_transformer.data.borders import LengthGroups, batch_borders
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
    for number in range(len(ORDERS)):
        batches = epoch(plan, number)
        assert sorted(np.concatenate(batches)) == list(range(len(pairs)))
        for rows in batches:
            assert 0 < plan.source_lengths[rows].sum() <= budget
            assert 0 < plan.target_lengths[rows].sum() <= budget


@given(lengths, budgets)
def test_there_are_as_few_batches_as_possible(pairs: list[tuple[int, int]], budget: int) -> None:
    source_lengths, target_lengths = np.array(sorted(pairs)).T
    borders = batch_borders(LengthGroups(source_lengths, target_lengths, np.arange(len(pairs)) + 1), budget)
    groups, counts = np.unique(sorted(pairs), axis=0, return_counts=True)
    assert batch_borders(LengthGroups(groups[:, 0], groups[:, 1], counts.cumsum()), budget).tolist() == borders.tolist()
    for begin, end in itertools.pairwise(borders[:-1]):
        with_next = slice(begin, end + 1)
        assert max(source_lengths[with_next].sum(), target_lengths[with_next].sum()) > budget
    assert (borders[0], borders[-1]) == (0, len(pairs))


def padding_share(plan: BatchPlan, accumulation: int = 1, world_size: int = 1) -> float:
    """Return the share of padding in four epochs, which have all orders."""
    rows_of_steps = [plan.step_rows(step) for step in range(len(ORDERS) * plan.num_batches)]
    parts = [
        plan.micro_batch_rows(rows, plan.longer_sides(rows), micro_batch, accumulation, rank, world_size)
        for rows in rows_of_steps
        for micro_batch in range(accumulation)
        for rank in range(world_size)
    ]
    sides = plan.source_lengths, plan.target_lengths
    positions = sum(len(part) * lengths[part].max() for part in parts if len(part) for lengths in sides)
    return float(1 - len(ORDERS) * sum(lengths.sum() for lengths in sides) / positions)


def test_batches_are_of_similar_lengths() -> None:
    assert padding_share(random_plan()) < 0.07


def met_again(first: list[IntArray], second: list[IntArray]) -> float:
    """Return the share of the pairs in a batch of `first` that are in one batch of `second` too."""
    batch_of = {row: index for index, rows in enumerate(second) for row in rows}
    couples = [couple for rows in first for couple in itertools.combinations(rows, 2)]
    return sum(batch_of[one] == batch_of[other] for one, other in couples) / len(couples)


@pytest.mark.parametrize(("num_pairs", "tokens_per_batch"), [(97, 503), (499, 503), (1999, 503), (1999, 2003)])
def test_sentences_of_a_small_corpus_meet_others_in_the_next_epoch(num_pairs: int, tokens_per_batch: int) -> None:
    """Few of them have equal lengths, so a random order among those would leave the batches as they are."""
    plan = random_plan(num_pairs, tokens_per_batch)
    epochs = [epoch(plan, number) for number in range(5)]
    assert np.mean([met_again(one, other) for one, other in itertools.pairwise(epochs)]) < 0.7
    assert np.mean([met_again(one, other) for one, other in zip(epochs, epochs[2:], strict=False)]) < 0.8


def test_epochs_and_seeds_differ_in_the_batches_and_in_their_order() -> None:
    plan = random_plan()
    first, fifth = epoch(plan, 0), epoch(plan, len(ORDERS))  # of one order
    other = epoch(random_plan(seed=2), 0)
    for one, two in itertools.combinations((first, fifth, other), 2):
        assert len(one) == len(two) == plan.num_batches
        assert {frozenset(rows) for rows in one} != {frozenset(rows) for rows in two}
        assert [plan.target_lengths[rows[0]] for rows in one] != [plan.target_lengths[rows[0]] for rows in two]
    by_length = sorted(first, key=lambda rows: plan.target_lengths[rows[0]])
    assert [tuple(rows) for rows in by_length] != [tuple(rows) for rows in first], "not from short to long"


@given(lengths, budgets, st.sampled_from([np.int16, np.int32, np.int64]), st.integers(0, 3))
def test_pairs_are_sorted_by_both_lengths_in_turns_then_at_random(
    pairs: list[tuple[int, int]], budget: int, kind: type[np.signedinteger], seed: int
) -> None:
    """A resumed run goes on with the same sentences as long as the orders are those of these formulas."""
    source_lengths, target_lengths = np.array(pairs, dtype=kind).T
    plan = BatchPlan(source_lengths, target_lengths, budget, seed)
    source, target = source_lengths.astype(int), target_lengths.astype(int)
    for number in range(2 * len(ORDERS)):
        random = np.random.default_rng((seed, number))
        ties = random.permutation(len(pairs))
        first, second = (target, source) if number % 2 == 0 else (source, target)
        falls = first % 2 == (1 if number % 4 < 2 else 0)
        rows = np.lexsort((ties, np.where(falls, -second, second), first))
        borders = plan.borders[number % len(ORDERS)]
        batches = np.split(rows, borders[1:-1])
        assert [part.tolist() for part in epoch(plan, number)] == [
            batches[index].tolist() for index in random.permutation(len(batches))
        ]
        filled = rows[::-1] if number % 4 >= 2 else rows
        fewest = batch_borders(LengthGroups(source[filled], target[filled], np.arange(len(pairs)) + 1), budget)
        if number % 4 >= 2:
            fewest = len(pairs) - fewest
        assert set(fewest) <= set(borders), "only halves of the longest possible batches"
        for index, batch in enumerate(batches):
            lengths = plan.batch_lengths(number % len(ORDERS), index)
            assert [side.tolist() for side in lengths] == [source[batch].tolist(), target[batch].tolist()]
        longest = [max(source[part].max(), target[part].max()) for part in batches]
        assert plan.longest[number % len(ORDERS)].tolist() == longest


def test_a_step_does_not_depend_on_earlier_ones() -> None:
    """So a resumed run goes on exactly, from any step."""
    plan = random_plan()
    steps = range(3 * plan.num_batches)
    expected = [plan.step_rows(step) for step in steps]
    again = random_plan()
    for step in reversed(steps):
        assert np.array_equal(again.step_rows(step), expected[step])


@given(st.integers(1, 97), st.integers(1, 7), st.integers(1, 5))
def test_pairs_are_dealt_to_devices_and_cut_into_micro_batches(
    num_rows: int, accumulation: int, world_size: int
) -> None:
    rows = np.arange(100, 100 + num_rows)
    longer = np.random.default_rng(num_rows).integers(1, 20, num_rows)
    parts = [
        [
            BatchPlan.micro_batch_rows(rows, longer, index, accumulation, rank, world_size)
            for index in range(accumulation)
        ]
        for rank in range(world_size)
    ]
    assert sorted(np.concatenate([row for device in parts for row in device])) == list(rows)
    sizes = [len(part) for device in parts for part in device]
    assert max(sizes) - min(sizes) <= 1
    for rank, device in enumerate(parts):
        own = np.concatenate(device)
        dealt = list(range(100 + rank, 100 + num_rows, world_size))
        assert sorted(own) == dealt, "like cards"
        if accumulation == 1:
            assert own.tolist() == dealt, "in the order of the plan"
        else:
            assert (np.diff(longer[own - 100]) >= 0).all(), "cut in the order of the longer side"


def test_micro_batches_of_a_device_have_less_padding_than_their_step() -> None:
    plan = random_plan(1999, 2003)
    assert padding_share(plan, accumulation=4) < 0.5 * padding_share(plan)


def micro_batches(plan: BatchPlan, accumulation: int, world_size: int) -> list[IntArray]:
    """Return the micro-batches of all devices in four epochs, without empty ones."""
    parts = [
        plan.micro_batch_rows(
            rows := plan.step_rows(step), plan.longer_sides(rows), index, accumulation, rank, world_size
        )
        for step in range(len(ORDERS) * plan.num_batches)
        for index in range(accumulation)
        for rank in range(world_size)
    ]
    return [part for part in parts if len(part)]


def padded_tokens(plan: BatchPlan, rows: IntArray) -> int:
    """Return the padded tokens of a micro-batch on the longer side."""
    return len(rows) * int(max(plan.source_lengths[rows].max(), plan.target_lengths[rows].max()))


@given(lengths, budgets, st.integers(37, 223), st.sampled_from([1, 2, 3, 8]))
def test_accumulation_keeps_every_micro_batch_within_the_bound(
    pairs: list[tuple[int, int]], budget: int, bound: int, world_size: int
) -> None:
    plan = make_plan(pairs, budget)
    accumulation = plan.accumulation(max_tokens_per_device=bound, world_size=world_size)
    assert max(padded_tokens(plan, rows) for rows in micro_batches(plan, accumulation, world_size)) <= bound


@given(lengths, budgets, st.integers(37, 223), st.sampled_from([1, 2, 3, 8]))
def test_accumulation_is_as_little_as_possible(
    pairs: list[tuple[int, int]], budget: int, bound: int, world_size: int
) -> None:
    """Exact for sides of equal lengths. The longest of the second side may be in a smaller micro-batch."""
    plan = make_plan([(max(pair), max(pair)) for pair in pairs], budget)
    accumulation = plan.accumulation(max_tokens_per_device=bound, world_size=world_size)
    if accumulation > 1:
        assert max(padded_tokens(plan, rows) for rows in micro_batches(plan, accumulation - 1, world_size)) > bound


@given(lengths, budgets, st.integers(1, 5), st.sampled_from([1, 2, 3]))
def test_the_largest_micro_batches_need_the_most_memory(
    pairs: list[tuple[int, int]], budget: int, accumulation: int, world_size: int
) -> None:
    plan = make_plan([(max(pair), max(pair)) for pair in pairs], budget)
    largest = plan.largest_micro_batches(accumulation=accumulation, world_size=world_size)
    all_parts = micro_batches(plan, accumulation, world_size)
    for exponent in (1, 2):  # of tokens, of attention weights
        sizes, found = (
            [len(rows) * int(plan.target_lengths[rows].max()) ** exponent for rows in parts]
            for parts in (all_parts, largest)
        )
        assert max(found) == max(sizes)
    tokens = plan.micro_batch_tokens(accumulation * world_size).max()
    assert max(padded_tokens(plan, rows) for rows in largest) == tokens


@pytest.mark.parametrize("world_size", [8, 64, 512])
def test_many_ranks_share_the_same_batches(world_size: int) -> None:
    """Each pair is on one rank, all ranks have equally many but for one, and more ranks accumulate less."""
    source_lengths, target_lengths = drawn_lengths(100_000)
    plan = BatchPlan(source_lengths, target_lengths, 25_000, seed=1)
    accumulation = plan.accumulation(max_tokens_per_device=2048, world_size=world_size)
    assert accumulation == -(-plan.accumulation(max_tokens_per_device=2048, world_size=1) // world_size)
    for step in range(0, plan.num_batches, 10):
        rows = plan.step_rows(step)
        parts = [
            plan.micro_batch_rows(rows, plan.longer_sides(rows), index, accumulation, rank, world_size)
            for index in range(accumulation)
            for rank in range(world_size)
        ]
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
