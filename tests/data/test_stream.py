"""The training stream: any number of devices takes the same optimizer steps, and a resumed run goes on exactly."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, Batch
from lit_transformer.data.batching import BatchPlan
from lit_transformer.data.epochs import Epochs, whole_epochs
from lit_transformer.data.pairs import PairAssembler
from lit_transformer.data.store import TokenStore
from lit_transformer.data.stream import TrainingStream
from tests.helpers.corpora import write_tokens

NUM_PAIRS = 211


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Pairs of 1 to 17 tokens. The first source token tells which pair it is."""
    random = np.random.default_rng(1)
    first, extra = EOS_ID + 1 + np.arange(NUM_PAIRS), random.integers(0, 17, (2, NUM_PAIRS))
    source = [[int(first[row]), *[7] * int(extra[0, row]), EOS_ID] for row in range(NUM_PAIRS)]
    target = [[*[int(first[row])] * int(extra[1, row]), EOS_ID] for row in range(NUM_PAIRS)]
    path = tmp_path_factory.mktemp("store") / "tokens.arrow"
    return TokenStore(write_tokens(path, list(zip(source, target, strict=True))))


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
    epochs: Epochs | None = None,
) -> list[list[Batch]]:
    """Return the micro-batches of all ranks for every step."""
    epochs = epochs or whole_epochs(plan.num_batches)
    steps: list[list[Batch]] = [[] for _ in range(num_steps)]
    for rank in range(world_size):
        stream = TrainingStream(
            plan, PairAssembler(store, plan), epochs=epochs, accumulation=accumulation, rank=rank, world_size=world_size
        ).from_step(first_step)
        loader = DataLoader(stream, batch_size=None, num_workers=num_workers)
        for number, batch in enumerate(islice(loader, num_steps * accumulation)):
            assert (batch.step, batch.micro_batch) == (first_step + number // accumulation, number % accumulation)
            steps[number // accumulation].append(batch)
    return steps


def pairs(batches: list[Batch]) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Return the sentence pairs without padding and without filler, sorted."""
    rows = [
        tuple(tuple(token for token in side.tolist() if token != PAD_ID) for side in sides)
        for batch in batches
        for sides in zip(batch.source_BS, batch.target_output_BT, strict=True)
    ]
    return sorted(row for row in rows if row[1])  # type: ignore[misc]


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


def test_an_epoch_has_every_pair_once(plan: BatchPlan, store: TokenStore) -> None:
    batches = [batch for step in micro_batches(plan, store, plan.num_batches) for batch in step]
    seen = pairs(batches)
    assert [source[0] for source, _ in seen] == [EOS_ID + 1 + row for row in range(NUM_PAIRS)]
    for source, target in seen:
        assert set(target[:-1]) <= {source[0]}, "source and target of one pair belong together"
        assert (source[-1], target[-1]) == (EOS_ID, EOS_ID)


def test_a_limited_epoch_takes_the_first_steps_of_the_plan_s(plan: BatchPlan, store: TokenStore) -> None:
    """Or those of the first one again and again."""
    whole = micro_batches(plan, store, 2 * plan.num_batches)
    for repeats, second in ((False, plan.num_batches), (True, 0)):
        epochs = Epochs(steps=3, plan_steps=plan.num_batches, repeats_first=repeats)
        taken = micro_batches(plan, store, 6, epochs=epochs)
        assert [pairs(step) for step in taken] == [pairs(step) for step in whole[:3] + whole[second : second + 3]]


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # more than there are cores, perhaps
@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_a_run_resumed_at_any_step_goes_on_exactly_with_any_number_of_workers(
    plan: BatchPlan, store: TokenStore, num_workers: int
) -> None:
    whole = [batch for step in micro_batches(plan, store, plan.num_batches + 5, accumulation=2) for batch in step]
    for first_step in (0, 1, plan.num_batches - 2):
        rest = micro_batches(plan, store, 7, first_step=first_step, accumulation=2, num_workers=num_workers)
        for batch, expected in zip([batch for step in rest for batch in step], whole[2 * first_step :], strict=False):
            for part, expected_part in zip(batch[:-1], expected[:-1], strict=True):  # without `packing`
                assert torch.equal(torch.as_tensor(part), torch.as_tensor(expected_part))


def test_a_rank_without_sentences_gets_filler(plan: BatchPlan, store: TokenStore) -> None:
    num_rows = [len(plan.step_rows(step)) for step in range(plan.num_batches)]
    steps = micro_batches(plan, store, plan.num_batches, world_size=13)
    fillers = [[batch for batch in step if batch.num_target_tokens == 0] for step in steps]
    assert [len(step) for step in fillers] == [max(0, 13 - rows) for rows in num_rows]
    assert sum(map(len, fillers)) > 0
    for batch in (batch for step in fillers for batch in step):
        assert batch.source_BS.tolist() == [[EOS_ID]], (
            "one key that is not padding, because softmax over nothing is NaN"
        )
        assert batch.target_input_BT.tolist() == [[BOS_ID]]
        assert batch.target_output_BT.tolist() == [[PAD_ID]]
        assert batch.step_target_tokens > 0
