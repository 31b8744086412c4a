"""What models read and predict: by hand, by counting, and restored."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, IntArray
from lit_transformer.data.objectives import CausalLM, Example, Ids, MaskedLM, Objective, SpanCorruption, TextInfilling
from lit_transformer.errors import UserError

IDS = Ids(symbols=np.arange(100, 120), ordinary=np.arange(4, 100))
MASK = 100
OBJECTIVES = [CausalLM(), MaskedLM(), TextInfilling(), SpanCorruption(), SpanCorruption(0.9), TextInfilling(0.9, 1.0)]


def text(size: int) -> IntArray:
    return np.array([*range(4, 4 + size), EOS_ID])


def examples(objective: Objective, size: int, number: int) -> list[Example]:
    return [objective.example(text(size), IDS, np.random.default_rng(seed)) for seed in range(number)]


def test_a_block_is_read_as_sentences_that_begin_and_predicted_as_sentences_that_end() -> None:
    block = np.array([EOS_ID, 5, 6, EOS_ID, 7])
    example = CausalLM().example(block, IDS, np.random.default_rng())
    assert example.input.tolist() == [BOS_ID, 5, 6, BOS_ID]
    assert example.output.tolist() == [5, 6, EOS_ID, 7]


def test_masked_tokens_are_predicted_and_no_others() -> None:
    for example in examples(MaskedLM(0.3), 10, 50):
        original = np.array([BOS_ID, *text(10)])
        predicted = example.output != PAD_ID
        assert predicted.sum() == 3
        assert (example.output[predicted] == original[predicted]).all()
        assert (example.input[~predicted] == original[~predicted]).all()
        assert (example.restored == (example.input == MASK)).all()
        assert (example.restored[1:] == example.hidden).all()


def test_of_the_chosen_tokens_80_percent_are_masked_and_10_percent_are_any_token() -> None:
    masked = kept = total = 0
    others: list[int] = []
    places = np.zeros(20, np.int64)
    for example in examples(MaskedLM(), 20, 4000):
        predicted = example.output != PAD_ID
        read, original = example.input[predicted], example.output[predicted]
        total += len(read)
        masked += int((read == MASK).sum())
        kept += int((read == original).sum())
        others += read[(read != MASK) & (read != original)].tolist()
        places += predicted[1:-1]
    assert total == 3 * 4000  # round(0.15 x 20)
    assert masked / total == pytest.approx(0.8, abs=0.015)
    assert kept / total == pytest.approx(0.1 + 0.1 / 96, abs=0.01)
    assert set(others) <= set(IDS.ordinary.tolist())
    assert len(set(others)) > 90
    assert places.min() > 0.85 * 600 < places.max() < 1.15 * 600


def test_infilling_hides_its_share_in_spans_of_mean_3() -> None:
    num_masks = 0
    for example in examples(TextInfilling(), 3000, 40):
        assert example.output.tolist() == text(3000).tolist()
        assert example.hidden.sum() == 900
        num_masks += len(example.input) - (3001 - 900)
    assert num_masks / 40 == pytest.approx(300, rel=0.03)


def test_infilling_may_hide_nothing_behind_a_mask() -> None:
    """Where a mask stands between two neighbors of the text, it hides nothing."""
    empty = total = 0
    for example in examples(TextInfilling(), 60, 500):
        read = example.input.tolist()
        total += read.count(MASK)
        empty += sum(
            middle == MASK and left != MASK and right == left + 1
            for left, middle, right in zip(read, read[1:], read[2:], strict=False)
        )
    assert 0.02 < empty / total < 0.06  # exp(-3) = 0.05, less those beside another mask


def restored(example: Example) -> list[int]:
    """Put the spans of T5's output where the sentinels stand in its input."""
    spans: dict[int, list[int]] = {}
    for token in example.output[:-1].tolist():
        if token >= MASK:
            sentinel = token
            spans[sentinel] = []
        else:
            spans[sentinel].append(token)
    last = spans.popitem()
    assert last == (MASK + len(spans), [])
    assert list(spans) == list(range(MASK, MASK + len(spans)))
    assert all(spans.values())
    return [token for read in example.input.tolist() for token in (spans[read] if read >= MASK else [read])]


@given(size=st.integers(1, 60), share=st.floats(0.01, 0.99), mean_span=st.floats(1, 9), seed=st.integers(0, 2**32))
def test_t5s_input_and_output_give_the_text(size: int, share: float, mean_span: float, seed: int) -> None:
    """Section 3.1.4 of the paper of T5: input and output together are the text, and the output ends with a sentinel."""
    objective = SpanCorruption(share, mean_span)
    ids = IDS._replace(symbols=np.arange(MASK, MASK + 99))
    example = objective.example(text(size), ids, np.random.default_rng(seed))
    assert restored(example) == text(size).tolist()
    assert example.output[-1] == EOS_ID
    assert (example.output[example.restored] == text(size)[example.hidden]).all()
    read = example.input
    assert not ((read[1:] >= MASK) & (read[:-1] >= MASK)).any()  # a token between two spans
    assert len(objective.symbols(size + 1)) >= (read >= MASK).sum() + 1


def test_t5_hides_its_share_in_spans_of_mean_length() -> None:
    num_spans, places = [], np.zeros(60, np.int64)
    lengths: list[int] = []
    for example in examples(SpanCorruption(), 60, 3000):
        num_spans.append(int((example.input >= MASK).sum()))
        places += example.hidden[:-1]
        sentinels = np.flatnonzero(example.output >= MASK)
        lengths += (np.diff(sentinels) - 1).tolist()
    assert set(num_spans) == {3}  # 9 hidden tokens in spans of 3
    assert np.mean(lengths) == 3.0
    assert {1, 2, 3, 4, 5, 6, 7} == set(lengths)
    assert places.sum() == 9 * 3000
    assert places[3:-3].min() > 0.7 * 450


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 19, 50])
def test_lengths_are_known_before_the_noise(objective: Objective, size: int) -> None:
    lengths = np.array([size + 1])
    most_read, predicted = (int(length) for [length] in objective.lengths(lengths))
    for example in examples(objective, size, 200):
        assert len(example.input) <= most_read
        assert len(example.output) == len(example.restored) == predicted
        assert np.count_nonzero(example.output != PAD_ID) == objective.num_predicted(lengths)[0]
        assert len(example.hidden) == size + 1
        if not isinstance(objective, TextInfilling):
            assert len(example.input) == most_read


@pytest.mark.parametrize("objective", OBJECTIVES[1:])
def test_noise_depends_on_the_generator_alone(objective: Objective) -> None:
    first, again = examples(objective, 30, 5), examples(objective, 30, 5)
    for one, other in zip(first, again, strict=True):
        assert all((mine == its).all() for mine, its in zip(one, other, strict=True))
    assert len({tuple(example.input.tolist()) for example in first}) == 5


@pytest.mark.parametrize("make", [MaskedLM, TextInfilling, SpanCorruption])
def test_shares_must_be_shares(make: Callable[[float], Objective]) -> None:
    for share in (0.0, 1.0, -0.1):
        with pytest.raises(UserError, match="mask_share"):
            make(share)
    with pytest.raises(UserError, match="mean_span"):
        TextInfilling(0.3, 0.5)
