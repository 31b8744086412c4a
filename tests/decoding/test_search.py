import itertools
import random
from dataclasses import dataclass
from typing import Self

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_transformer.decoding import search as search_module
from lit_transformer.decoding.beams import Hypothesis, SpecialIds, topk
from lit_transformer.decoding.search import beam_search
from lit_transformer.decoding.settings import SearchSettings

pytestmark = pytest.mark.usefixtures("device")

V = 11
IDS = SpecialIds(bos=2, eos=3, banned=(0, 1, 2))
ALPHAS = [0.0, 0.6, 1.0]


class RandomModel:
    """Logits that are a pure function of sentence and pieces; counts how often it is asked."""

    def __init__(self, *, vocab_size: int = V, eos_logit: float = 0.0, sharpness: float = 1.5) -> None:
        self.vocab_size = vocab_size
        self.sharpness = sharpness
        self.eos_logit = eos_logit
        self.num_calls = 0

    def logits(self, sentence: int, pieces: tuple[int, ...]) -> np.ndarray:
        # In float64, where no two hypotheses come so close that a rounding decides between them.
        logits = np.random.default_rng((sentence, *pieces)).normal(0.0, self.sharpness, self.vocab_size)
        logits[IDS.banned[sentence % 3]] += 3.0  # often the likeliest, could it be chosen
        logits[IDS.eos] += self.eos_logit * (1 + sentence % 3)
        return logits

    def log_probabilities(self, sentence: int, pieces: tuple[int, ...]) -> dict[int, float]:
        """Of the pieces that may be chosen."""
        logits = torch.from_numpy(self.logits(sentence, pieces))
        values = logits.log_softmax(dim=0).tolist()
        return {piece: value for piece, value in enumerate(values) if piece not in IDS.banned}

    def step(self, token_N: Tensor, state: "Prefixes") -> tuple[Tensor, "Prefixes"]:
        self.num_calls += 1
        prefixes = [(*prefix, token) for prefix, token in zip(state.prefixes, token_N.tolist(), strict=True)]
        beams = len(prefixes) // len(state.sentences)
        logits = [self.logits(state.sentences[row // beams], prefix[1:]) for row, prefix in enumerate(prefixes)]
        return torch.tensor(np.stack(logits)), Prefixes(state.sentences, prefixes)


@dataclass
class Prefixes:
    """A state that shows every disorder: it is what has been said."""

    sentences: list[int]
    prefixes: list[tuple[int, ...]]

    def reorder(self, row_N: Tensor) -> Self:
        beams = len(self.prefixes) // len(self.sentences)
        assert [row // beams for row in row_N.tolist()] == [row // beams for row in range(len(self.prefixes))]
        return type(self)(self.sentences, [self.prefixes[row] for row in row_N.tolist()])

    def keep(self, sentence_B: Tensor) -> Self:
        beams = len(self.prefixes) // len(self.sentences)
        rows = [index * beams + beam for index in sentence_B.tolist() for beam in range(beams)]
        return type(self)(
            [self.sentences[index] for index in sentence_B.tolist()], [self.prefixes[row] for row in rows]
        )


def find(
    model: RandomModel, limits: dict[int, int], *, beam_size: int, n_best: int = 1, alpha: float
) -> list[list[Hypothesis]]:
    """Search for the sentences that are the keys, each up to its limit."""
    state = Prefixes(list(limits), [()] * len(limits) * beam_size)
    max_length_B = torch.tensor(list(limits.values()))
    settings = SearchSettings(beam_size=beam_size, n_best=n_best, length_penalty=alpha)
    return beam_search(model.step, state, settings=settings, max_length_B=max_length_B, ids=IDS)


def score(total: float, length: int, alpha: float) -> float:
    return total / ((5 + length) / 6) ** alpha


def by_the_book(
    model: RandomModel, sentence: int, limit: int, *, beam_size: int, n_best: int, alpha: float
) -> list[Hypothesis]:
    """What `beam_search` documents, for one sentence, in lists, and never stopping before the limit."""
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    finished: list[Hypothesis] = []
    for length in range(1, limit + 1):
        candidates = sorted(
            (
                (total + value, (*pieces, piece))
                for total, pieces in live
                for piece, value in model.log_probabilities(sentence, pieces).items()
            ),
            reverse=True,
        )
        finished += [
            Hypothesis(list(pieces[:-1]), score(total, length, alpha))
            for total, pieces in candidates[:beam_size]
            if pieces[-1] == IDS.eos
        ]
        live = [candidate for candidate in candidates if candidate[1][-1] != IDS.eos][:beam_size]
    finished.sort(key=lambda hypothesis: -hypothesis.score)
    unfinished = [Hypothesis(list(pieces), score(total, limit, alpha)) for total, pieces in live]
    return (finished[:beam_size] + unfinished)[:n_best]


def assert_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    assert [[best.tokens for best in sentence] for sentence in found] == [
        [best.tokens for best in sentence] for sentence in expected
    ]
    for sentence, expected_sentence in zip(found, expected, strict=True):
        scores = [best.score for best in expected_sentence]
        assert [best.score for best in sentence] == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_beam_that_holds_everything_equals_brute_force(alpha: float) -> None:
    """7 pieces, 3 of them free, at most 4 a hypothesis: 40 finished ones, then the 81 that found no end."""
    model, limit = RandomModel(vocab_size=7), 4
    expected = []
    for sentence in (5, 13, 17):
        finished, unfinished = [], []
        for length in range(1, limit + 1):
            for pieces in itertools.product([4, 5, 6], repeat=length):
                steps = [model.log_probabilities(sentence, pieces[:place]) for place in range(length)]
                totals = list(itertools.accumulate(step[piece] for step, piece in zip(steps, pieces, strict=True)))
                before = totals[-2] if length > 1 else 0.0
                end = before + steps[-1][IDS.eos]
                if pieces[-1] == 4:  # the end is the same for all three last pieces
                    finished.append(Hypothesis(list(pieces[:-1]), score(end, length, alpha)))
                if length == limit:
                    unfinished.append(Hypothesis(list(pieces), score(totals[-1], length, alpha)))
        assert (len(finished), len(unfinished)) == (40, 81)
        ranked = sorted(finished, key=lambda hypothesis: -hypothesis.score)
        expected.append((ranked + sorted(unfinished, key=lambda hypothesis: -hypothesis.score))[:43])
    limits = dict.fromkeys((5, 13, 17), limit)
    assert_same(find(model, limits, beam_size=127, n_best=43, alpha=alpha), expected)
    best = find(model, limits, beam_size=127, alpha=alpha)
    assert_same(best, [sentence[:1] for sentence in expected])


@pytest.mark.parametrize("steps_per_check", [1, 3, 8])
@pytest.mark.parametrize(("beam_size", "n_best"), [(2, 1), (2, 2), (3, 2), (5, 1), (5, 5)])
def test_beam_search_does_what_it_documents(
    beam_size: int, n_best: int, steps_per_check: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a reference that never stops early: a stop that lost a better hypothesis would show.

    Sentences end at many lengths, some not at all, and are looked at every so many steps, as on a GPU. Where the
    model is sure of itself, a live hypothesis gains more by the length penalty than its next pieces cost.
    """
    monkeypatch.setitem(search_module.STEPS_PER_CHECK, torch.get_default_device().type, steps_per_check)
    for alpha, (eos_logit, sharpness) in itertools.product(ALPHAS, [(-1.5, 1.5), (0.0, 1.5), (1.0, 1.5), (0.0, 7.0)]):
        model = RandomModel(eos_logit=eos_logit, sharpness=sharpness)
        limits = {sentence: random.choice([1, 2, 5, 7, 13]) for sentence in range(17)}
        expected = [
            by_the_book(model, sentence, limit, beam_size=beam_size, n_best=n_best, alpha=alpha)
            for sentence, limit in limits.items()
        ]
        assert_same(find(model, limits, beam_size=beam_size, n_best=n_best, alpha=alpha), expected)


def test_search_stops_when_the_result_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search_module.STEPS_PER_CHECK, torch.get_default_device().type, 1)
    model = RandomModel(eos_logit=1.0)
    limits = dict.fromkeys(range(7), 101)
    found = find(model, limits, beam_size=3, alpha=0.6)
    assert max(len(sentence[0].tokens) for sentence in found) < model.num_calls < 60
    model.num_calls = 0
    greedy = find(model, limits, beam_size=1, alpha=0.6)
    assert max(len(sentence[0].tokens) for sentence in greedy) + 1 == model.num_calls < 60


@pytest.mark.parametrize("steps_per_check", [1, 8])
def test_a_beam_of_one_takes_the_best_piece_every_time(steps_per_check: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(search_module.STEPS_PER_CHECK, torch.get_default_device().type, steps_per_check)
    model = RandomModel(eos_logit=0.5)
    limits = {sentence: 2 + sentence % 11 for sentence in range(23)}
    expected, ends = [], set()
    for sentence, limit in limits.items():
        pieces: list[int] = []
        total = 0.0
        while len(pieces) < limit and IDS.eos not in pieces:
            log_probabilities = model.log_probabilities(sentence, tuple(pieces))
            best = max(log_probabilities, key=log_probabilities.__getitem__)
            pieces.append(best)
            total += log_probabilities[best]
        ends.add((pieces[-1] == IDS.eos, len(pieces)))
        tokens = [piece for piece in pieces if piece != IDS.eos]
        expected.append([Hypothesis(tokens, score(total, len(pieces), 0.6))])
    assert len(ends) > 5, "the test is to see many lengths, ended by EOS and by the limit"
    assert_same(find(model, limits, beam_size=1, alpha=0.6), expected)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_batch_gives_what_its_sentences_give_alone(beam_size: int) -> None:
    model = RandomModel(eos_logit=0.5)
    limits = {sentence: 3 + sentence % 7 for sentence in range(13)}
    alone = [find(model, {sentence: limit}, beam_size=beam_size, alpha=0.6)[0] for sentence, limit in limits.items()]
    assert_same(find(model, limits, beam_size=beam_size, alpha=0.6), alone)


@pytest.mark.parametrize("steps_per_check", [1, 8])
def test_a_large_vocabulary_is_ranked_in_two_stages_with_the_same_result(
    steps_per_check: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few sentences are finished at a time, so finished ones, with nothing left to choose, stay in the batch."""
    monkeypatch.setitem(search_module.STEPS_PER_CHECK, torch.get_default_device().type, steps_per_check)
    model = RandomModel(vocab_size=2503, eos_logit=4.0)
    limits = {sentence: 1 + sentence for sentence in range(7)}
    expected = [
        by_the_book(model, sentence, limit, beam_size=2, n_best=2, alpha=0.6) for sentence, limit in limits.items()
    ]
    assert_same(find(model, limits, beam_size=2, n_best=2, alpha=0.6), expected)


@pytest.mark.parametrize("width", [8 * 4 * 256 - 1, 8 * 4 * 256, 11_781, 37_000 * 4 + 3])
def test_topk_in_two_stages_equals_that_in_one(width: int) -> None:
    score_BX = torch.randn(5, width)
    score_BX[1] = score_BX[1].sort(descending=True).values  # all in the first block
    score_BX[2] = score_BX[2].sort().values  # all in the last one, which is shorter
    score_BX[3] = -torch.inf
    score_BX[4, :-1] = -torch.inf
    value_BC, index_BC = topk(score_BX, 8)
    assert torch.equal(value_BC, score_BX.topk(8, dim=1).values)
    assert index_BC.max() < width, "also where there is nothing left to choose"
    finite_BC = value_BC.isfinite()
    assert torch.equal(score_BX.gather(1, index_BC)[finite_BC], value_BC[finite_BC])
    assert all(len(row.unique()) == 8 for row in index_BC[:3])
