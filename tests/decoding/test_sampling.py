"""Sampling: frequencies, filters, and random numbers that depend on nothing but their names."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import pytest
import torch
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from lit_transformer.decoding import search as search_module
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.sampling import draw, filtered, sample, split_mix
from lit_transformer.decoding.scoring import SpecialIds, length_penalty
from lit_transformer.decoding.search import beam_search
from lit_transformer.search_settings import SamplingSettings, SearchSettings

pytestmark = pytest.mark.usefixtures("device")

V = 13
IDS = SpecialIds(bos=2, eos=3, banned=(0, 1, 2))
UNENDING = IDS._replace(banned=(0, 1, 2, 3))


@dataclass
class TokensSoFar:
    """A state that a step only adds to."""

    rows: list[tuple[int, ...]]

    def reorder(self, row_N: Tensor) -> Self:
        raise AssertionError("sampling keeps the order")

    def keep(self, sentence_B: Tensor) -> Self:
        raise AssertionError("sampling keeps all sentences")


def log_probabilities(tokens: tuple[int, ...]) -> Tensor:
    """Of every next token: a pure function of the tokens so far."""
    generator = torch.Generator("cpu").manual_seed(hash(tokens) % 2**31)
    logits_V = torch.randn(V, generator=generator, dtype=torch.float64, device="cpu")
    return logits_V.to(torch.get_default_device()).log_softmax(dim=0)


def step(token_N: Tensor, state: TokensSoFar) -> tuple[Tensor, TokensSoFar]:
    rows = [(*tokens, token) for tokens, token in zip(state.rows, token_N.tolist(), strict=True)]
    return torch.stack([log_probabilities(tokens) for tokens in rows]), TokensSoFar(rows)


def sampled(
    numbers: Sequence[int],
    sampling: SamplingSettings = SamplingSettings(),
    *,
    num_samples: int = 1,
    min_length: int = 0,
    limits: Sequence[int] | None = None,
    prefix: Sequence[Sequence[int]] | None = None,
    ids: SpecialIds = IDS,
) -> list[list[Hypothesis]]:
    """Samples of sentences that differ in their numbers only."""
    rows: list[tuple[int, ...]] = [() for _ in range(len(numbers) * num_samples)]
    return sample(
        step,
        TokensSoFar(rows),
        settings=SearchSettings(sampling=sampling, n_best=num_samples, min_length=min_length),
        max_length_B=torch.tensor([9] * len(numbers) if limits is None else limits),
        ids=ids,
        prefix=prefix,
        number_B=torch.tensor(numbers),
    )


def test_random_numbers_are_those_of_split_mix_64() -> None:
    """The generator by its definition, in Python's unbounded integers."""
    state, expected = 1234567, []
    for _ in range(17):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        mixed = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
        expected.append(mixed ^ (mixed >> 31))
    found = split_mix(torch.tensor(1234567), torch.arange(17)).tolist()
    assert [number % 2**64 for number in found] == expected
    assert expected[:2] == [6457827717110365317, 3203168211198807973], "published for this seed"


@pytest.mark.parametrize("vocab_size", [1, 2, 37, 101])
@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.7])
def test_frequencies_are_the_softmax(vocab_size: int, temperature: float) -> None:
    """Also across the blocks in which a token is looked for. The seed is fixed, so this never fails by chance."""
    num_rows = 20_000
    logits_V = torch.linspace(0.0, 3.0, vocab_size, dtype=torch.float64)[torch.randperm(vocab_size)]
    settings = SamplingSettings(temperature=temperature)
    key_N = split_mix(torch.tensor(7), torch.arange(num_rows))
    tokens_N = draw(logits_V.expand(num_rows, -1).log_softmax(dim=1), 5, settings=settings, key_N=key_N)
    counts_V = tokens_N.bincount(minlength=vocab_size)
    expected_V = num_rows * (logits_V / temperature).softmax(dim=0)
    # Chi-square has a mean of the degrees of freedom and twice this variance.
    chi_square = float(((counts_V - expected_V) ** 2 / expected_V).sum())
    assert chi_square < vocab_size + 5 * (2 * vocab_size) ** 0.5


def test_positions_samples_and_sentences_are_independent() -> None:
    """How often two of them draw the same token is what independent draws would have."""
    score_NV = torch.zeros(20_000, 5, dtype=torch.float64)
    draws = {}
    for seed, sample_number, position in itertools.product(range(2), range(2), range(1, 3)):
        key_N = split_mix(split_mix(torch.tensor(seed), torch.arange(20_000)), sample_number)
        draws[seed, sample_number, position] = draw(score_NV, position, settings=SamplingSettings(), key_N=key_N)
    for one, other in itertools.combinations(draws.values(), 2):
        for shift in range(3):
            share = float((one == other.roll(shift)).double().mean())
            assert share == pytest.approx(0.2, abs=5 * (0.2 * 0.8 / 20_000) ** 0.5)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 0.7},
        {"top_k": 1},
        {"top_k": 5},
        {"top_k": 1000},
        {"top_p": 0.001},
        {"top_p": 0.5},
        {"top_p": 0.97},
        {"top_p": 1.0},
        {"temperature": 1.9, "top_k": 7, "top_p": 0.6},
        {"temperature": 0.3, "top_k": 3, "top_p": 0.9},
    ],
)
def test_filters_equal_those_of_transformers(values: dict[str, Any]) -> None:
    """Tokens that tie with the last one stay with `top_k`, there and here. The rows hold banned tokens, too."""
    score_NV = torch.randn(31, 23, dtype=torch.float64)
    score_NV[:, 5] = float("-inf")
    if "top_p" not in values:
        score_NV = (2 * score_NV).round() / 2
    score_NV = score_NV.log_softmax(dim=1)
    warped_NV = score_NV
    for name, warper in (
        ("temperature", TemperatureLogitsWarper),
        ("top_k", TopKLogitsWarper),
        ("top_p", TopPLogitsWarper),
    ):
        if name in values:
            warped_NV = warper(values[name])(torch.zeros(31, 1, dtype=torch.int64), warped_NV)
    found_NV = filtered(score_NV, SamplingSettings(**values))
    torch.testing.assert_close(found_NV.softmax(dim=1), warped_NV.softmax(dim=1), rtol=0.0, atol=1e-12)
    assert ((found_NV == float("-inf")) == (warped_NV == float("-inf"))).all()


def test_with_top_p_tokens_that_tie_with_the_last_one_stay() -> None:
    score_NV = torch.tensor([[0.4, 0.2, 0.2, 0.2]], dtype=torch.float64).log()
    kept = {top_p: filtered(score_NV, SamplingSettings(top_p=top_p)) > float("-inf") for top_p in (0.3, 0.5)}
    assert kept[0.3].tolist() == [[True, False, False, False]]
    assert kept[0.5].tolist() == [[True, True, True, True]]


@pytest.mark.parametrize("temperature", [1e-300, 1e-5, 1e5])
def test_extreme_temperatures_draw_allowed_tokens(temperature: float) -> None:
    score_NV = torch.randn(101, V, dtype=torch.float32).log_softmax(dim=1)
    score_NV[:, :4] = float("-inf")
    settings = SamplingSettings(temperature=temperature)
    tokens_N = draw(score_NV, 1, settings=settings, key_N=torch.arange(101))
    assert int(tokens_N.min()) >= 4
    if temperature < 1.0:
        assert tokens_N.tolist() == score_NV.argmax(dim=1).tolist()
    else:
        assert len(tokens_N.unique()) == V - 4


NUMBERS = [4, 0, 7, 2**40 + 1, 11, 5]


@pytest.mark.parametrize("steps_per_check", [1, 8])
def test_neither_batch_nor_order_nor_neighbors_change_a_sample(
    steps_per_check: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, with neighbors that end earlier and later."""
    monkeypatch.setitem(search_module.STEPS_PER_CHECK, torch.get_default_device().type, steps_per_check)
    limits = dict(zip(NUMBERS, [3, 17, 8, 2, 17, 5], strict=True))
    together = dict(zip(NUMBERS, sampled(NUMBERS, num_samples=3, limits=list(limits.values())), strict=True))
    for group in ([4], [0], [5, 4], [11, 7, 0], NUMBERS[::-1]):
        found = sampled(group, num_samples=3, limits=[limits[number] for number in group])
        assert found == [together[number] for number in group]
    for number in NUMBERS:
        for count in (1, 2):
            assert sampled([number], num_samples=count, limits=[limits[number]]) == [together[number][:count]]
    everything = [tuple(each.tokens) for samples in together.values() for each in samples]
    assert len(set(everything)) > len(everything) // 2
    assert len({each.finished for samples in together.values() for each in samples}) == 2


def test_seeds_sentences_and_samples_differ() -> None:
    long = {"limits": [40], "ids": UNENDING}
    found = [
        tuple(each.tokens)
        for seed, number in itertools.product([0, 1, 2**32 - 1], [0, 1])
        for each in sampled([number], SamplingSettings(seed=seed), num_samples=2, **long)[0]  # type: ignore[arg-type]
    ]
    assert len(set(found)) == len(found) == 12


def test_temperature_0_is_greedy_search() -> None:
    for prefix in (None, [[2, 7], [9], [2, 4, 11]]):
        limits = torch.tensor([5, 9, 13])
        expected = beam_search(
            step,
            TokensSoFar([()] * 3),
            settings=SearchSettings(beam_size=1),
            max_length_B=limits,
            ids=IDS,
            prefix=prefix,
        )
        settings = SamplingSettings(temperature=0.0, seed=3)
        found = sampled([6, 7, 8], settings, min_length=1, limits=limits.tolist(), prefix=prefix)
        assert found == expected
        twice = sampled([6, 7, 8], settings, min_length=1, limits=limits.tolist(), prefix=prefix, num_samples=2)
        assert twice == [[best, best] for [best] in expected]


def test_scores_are_the_models_own_and_add_up() -> None:
    """Whatever the temperature and the filters."""
    settings = SamplingSettings(temperature=0.3, top_k=4, top_p=0.8, seed=1)
    for [found] in sampled(range(29), settings, limits=[6] * 29):
        tokens = [*found.tokens, IDS.eos][: len(found.token_scores)]
        steps = [log_probabilities((IDS.bos, *tokens[:place])) for place in range(len(tokens))]
        own = [float(step_V[token]) for step_V, token in zip(steps, tokens, strict=True)]
        assert found.token_scores == pytest.approx(own, abs=1e-9)
        total = found.score * length_penalty(len(tokens), 0.6)
        assert total == pytest.approx(sum(found.token_scores), abs=1e-4)


def test_banned_tokens_least_lengths_and_limits_hold() -> None:
    found = sampled(range(101), SamplingSettings(temperature=2.0), min_length=4, limits=[5] * 101)
    tokens = [each.tokens for [each] in found]
    assert {len(row) for row in tokens} == {4, 5}
    assert set(itertools.chain(*tokens)) == set(range(4, V))
    assert {each.finished for [each] in found} == {True, False}


def test_prefixes_of_unequal_lengths_are_forced() -> None:
    """A prefix that ends a sentence ends it. A forced token can be banned."""
    prefixes = [[2], [2, 5, 7], [9, 4], [2, 1, 0, 6], [2, 5, 3]]
    found = sampled(range(5), num_samples=3, prefix=prefixes, limits=[9] * 5)
    for prefix, samples in zip(prefixes, found, strict=True):
        for each in samples:
            assert [*each.tokens, IDS.eos][: len(prefix) - 1] == prefix[1:]
    assert [each.tokens for each in found[4]] == [[5]] * 3
    assert found[1] == sampled([1], num_samples=3, prefix=prefixes[1:2])[0]
