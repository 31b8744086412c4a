"""Greedy and beam search against brute force on tiny vocabularies."""

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_transformer.decoding import search as search_module
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.scoring import SpecialIds, length_penalty
from lit_transformer.decoding.search import beam_search
from lit_transformer.errors import UserError
from lit_transformer.search_settings import SearchSettings

pytestmark = pytest.mark.usefixtures("device")

V = 11
IDS = SpecialIds(bos=2, eos=3, banned=(0, 1, 2))
ALPHAS = [0.0, 0.6, 1.0]


class RandomModel:
    """Logits that are a pure function of sentence and tokens. It counts its calls."""

    def __init__(self, *, vocab_size: int = V, eos_logit: float = 0.0, sharpness: float = 1.5) -> None:
        self.vocab_size = vocab_size
        self.sharpness = sharpness
        self.eos_logit = eos_logit
        self.num_calls = 0

    def logits(self, sentence: int, tokens: tuple[int, ...]) -> np.ndarray:
        # In float64, where no two hypotheses come so close that a rounding decides between them.
        logits = np.random.default_rng((sentence, *tokens)).normal(0.0, self.sharpness, self.vocab_size)
        logits[IDS.banned[sentence % 3]] += 3.0  # often the most probable token, if it could be chosen
        logits[IDS.eos] += self.eos_logit * (1 + sentence % 3)
        return logits

    def log_probabilities(self, sentence: int, tokens: tuple[int, ...]) -> list[float]:
        """Of all tokens, banned ones too."""
        values: list[float] = torch.from_numpy(self.logits(sentence, tokens)).log_softmax(dim=0).tolist()
        return values

    def step(self, token_N: Tensor, state: "TokensSoFar") -> tuple[Tensor, "TokensSoFar"]:
        self.num_calls += 1
        rows = [(*tokens, token) for tokens, token in zip(state.rows, token_N.tolist(), strict=True)]
        beams = len(rows) // len(state.sentences)
        logits = [self.logits(state.sentences[row // beams], tokens) for row, tokens in enumerate(rows)]
        return torch.tensor(np.stack(logits)), TokensSoFar(state.sentences, rows)


@dataclass
class TokensSoFar:
    """A state that shows every disorder: the tokens that the model has read."""

    sentences: list[int]
    rows: list[tuple[int, ...]]

    def reorder(self, row_N: Tensor) -> Self:
        beams = len(self.rows) // len(self.sentences)
        assert [row // beams for row in row_N.tolist()] == [row // beams for row in range(len(self.rows))]
        return type(self)(self.sentences, [self.rows[row] for row in row_N.tolist()])

    def keep(self, sentence_B: Tensor) -> Self:
        beams = len(self.rows) // len(self.sentences)
        rows = [index * beams + beam for index in sentence_B.tolist() for beam in range(beams)]
        return type(self)([self.sentences[index] for index in sentence_B.tolist()], [self.rows[row] for row in rows])


Change = Callable[[tuple[int, ...], list[float]], list[float]]
"""What `adjust` does to one row: (tokens so far, log-probabilities) -> what to rank by."""


def in_batches(change: Change) -> Callable[[Tensor, Tensor], Tensor]:
    """The `adjust` that applies a change to every row."""

    def adjust(tokens_NT: Tensor, log_prob_NV: Tensor) -> Tensor:
        rows = zip(tokens_NT.tolist(), log_prob_NV.tolist(), strict=True)
        return log_prob_NV.new_tensor([change(tuple(tokens), values) for tokens, values in rows])

    return adjust


@dataclass
class Search:
    """A search for sentences, each up to its limit."""

    model: RandomModel
    limits: dict[int, int]
    settings: SearchSettings
    prefix: dict[int, tuple[int, ...]] = field(default_factory=dict)
    change: Change | None = None

    def find(self, on_step: Callable[[Tensor, Tensor], None] | None = None) -> list[list[Hypothesis]]:
        rows: list[tuple[int, ...]] = [() for _ in range(len(self.limits) * self.settings.beam_size)]
        return beam_search(
            self.model.step,
            TokensSoFar(list(self.limits), rows),
            settings=self.settings,
            max_length_B=torch.tensor(list(self.limits.values())),
            ids=IDS,
            prefix=list(self.prefix.values()) or None,
            adjust=self.change and in_batches(self.change),
            on_step=on_step,
        )

    def expected(self) -> list[list[Hypothesis]]:
        return [self.by_the_book(sentence)[0] for sentence in self.limits]

    def candidates(self, sentence: int, tokens: tuple[int, ...]) -> dict[int, tuple[float, float]]:
        """(what the search ranks by, the model's log-probability) of every token that may come next."""
        values = self.model.log_probabilities(sentence, tokens)
        prefix = self.prefix.get(sentence, ())
        if len(tokens) < len(prefix):
            forced = prefix[len(tokens)]
            return {forced: (values[forced], values[forced])}
        banned = (*IDS.banned, IDS.eos) if len(tokens) <= self.settings.min_length else IDS.banned
        allowed = [-float("inf") if token in banned else value for token, value in enumerate(values)]
        ranked = self.change(tokens, allowed) if self.change else allowed
        pairs = enumerate(zip(ranked, allowed, strict=True))
        return {token: pair for token, pair in pairs if pair[0] > -float("inf")}

    def by_the_book(self, sentence: int) -> tuple[list[Hypothesis], list[list[tuple[int, ...]]]]:
        """What `beam_search` documents, for one sentence, in lists, without stopping before the limit.

        Returns:
            The hypotheses, and the live ones after every step.
        """
        beam_size, alpha = self.settings.beam_size, self.settings.length_penalty
        limit = self.limits[sentence]
        live: list[tuple[float, tuple[int, ...], list[float]]] = [(0.0, self.prefix.get(sentence, (IDS.bos,))[:1], [])]
        finished: list[Hypothesis] = []
        history = []
        for length in range(1, limit + 1):
            candidates = sorted(
                (
                    (total + rank, (*tokens, token), [*scores, value])
                    for total, tokens, scores in live
                    for token, (rank, value) in self.candidates(sentence, tokens).items()
                ),
                reverse=True,
            )
            finished += [
                Hypothesis(list(tokens[1:-1]), total / length_penalty(length, alpha), scores)
                for total, tokens, scores in candidates[:beam_size]
                if tokens[-1] == IDS.eos
            ]
            live = [candidate for candidate in candidates if candidate[1][-1] != IDS.eos][:beam_size]
            history.append([tokens for _, tokens, _ in live])
        finished.sort(key=lambda hypothesis: -hypothesis.score)
        unfinished = [
            Hypothesis(list(tokens[1:]), total / length_penalty(limit, alpha), scores) for total, tokens, scores in live
        ]
        return (finished[:beam_size] + unfinished)[: self.settings.n_best], history


def assert_same(found: Sequence[list[Hypothesis]], expected: Sequence[list[Hypothesis]]) -> None:
    assert [[best.tokens for best in sentence] for sentence in found] == [
        [best.tokens for best in sentence] for sentence in expected
    ]
    for one, other in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.token_scores == pytest.approx(other.token_scores, abs=1e-4)


def check_every_step(monkeypatch: pytest.MonkeyPatch, steps_per_check: int) -> None:
    """Ask whether sentences are done every so many steps, as on a GPU."""
    monkeypatch.setitem(search_module.STEPS_PER_CHECK, torch.get_default_device().type, steps_per_check)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_a_beam_that_holds_everything_equals_brute_force(alpha: float) -> None:
    """7 tokens, 3 of them free, at most 4 per hypothesis: 40 finished ones, then the 81 without EOS."""
    model, limit = RandomModel(vocab_size=7), 4
    expected = []
    for sentence in (5, 13, 17):
        finished, unfinished = [], []
        for length in range(1, limit + 1):
            for tokens in itertools.product([4, 5, 6], repeat=length):
                steps = [model.log_probabilities(sentence, (IDS.bos, *tokens[:place])) for place in range(length)]
                scores = [step[token] for step, token in zip(steps, tokens, strict=True)]
                ended = [*scores[:-1], steps[-1][IDS.eos]]
                if tokens[-1] == 4:  # the end is the same for all three last tokens
                    score = sum(ended) / length_penalty(length, alpha)
                    finished.append(Hypothesis(list(tokens[:-1]), score, ended))
                if length == limit:
                    unfinished.append(Hypothesis(list(tokens), sum(scores) / length_penalty(length, alpha), scores))
        assert (len(finished), len(unfinished)) == (40, 81)
        ranked = sorted(finished, key=lambda hypothesis: -hypothesis.score)
        expected.append((ranked + sorted(unfinished, key=lambda hypothesis: -hypothesis.score))[:43])
    limits = dict.fromkeys((5, 13, 17), limit)
    for n_best in (1, 43):
        settings = SearchSettings(beam_size=127, n_best=n_best, length_penalty=alpha, min_length=0)
        assert_same(Search(model, limits, settings).find(), [sentence[:n_best] for sentence in expected])


@pytest.mark.parametrize("steps_per_check", [1, 3, 8])
@pytest.mark.parametrize(("beam_size", "n_best"), [(2, 1), (2, 2), (3, 2), (5, 1), (5, 5)])
@pytest.mark.parametrize("min_length", [0, 3])
def test_beam_search_does_what_it_documents(
    min_length: int, beam_size: int, n_best: int, steps_per_check: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a reference that never stops early: a stop that lost a better hypothesis would show.

    Sentences end at many lengths, some not at all. Where the model is sure of itself, a live hypothesis gains more by
    the length penalty than its next tokens cost.
    """
    check_every_step(monkeypatch, steps_per_check)
    lengths: set[int] = set()
    for alpha, (eos_logit, sharpness) in itertools.product(ALPHAS, [(-1.5, 1.5), (0.0, 1.5), (1.0, 1.5), (0.0, 7.0)]):
        limits = {sentence: random.choice([min_length + 1, min_length + 2, 5, 7, 13]) for sentence in range(17)}
        settings = SearchSettings(beam_size=beam_size, n_best=n_best, length_penalty=alpha, min_length=min_length)
        search = Search(RandomModel(eos_logit=eos_logit, sharpness=sharpness), limits, settings)
        found = search.find()
        assert_same(found, search.expected())
        lengths |= {len(best.tokens) for best in itertools.chain(*found)}
        for hypotheses in found:
            finished = [hypothesis.finished for hypothesis in hypotheses]
            assert finished == sorted(finished, reverse=True), "those that were cut come last"
    assert min(lengths) == min_length


def test_search_stops_when_the_result_is_certain() -> None:
    for beam_size in (1, 3):
        model = RandomModel(eos_logit=1.0)
        found = Search(model, dict.fromkeys(range(7), 101), SearchSettings(beam_size=beam_size)).find()
        assert max(len(sentence[0].tokens) for sentence in found) < model.num_calls < 60
        if beam_size == 1:
            assert max(len(sentence[0].tokens) for sentence in found) + 1 == model.num_calls


@pytest.mark.parametrize("steps_per_check", [1, 8])
def test_a_beam_of_one_takes_the_best_token_every_time(steps_per_check: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check_every_step(monkeypatch, steps_per_check)
    search = Search(
        RandomModel(eos_logit=0.5),
        {sentence: 2 + sentence % 11 for sentence in range(23)},
        SearchSettings(beam_size=1),
    )
    expected = greedily(search)
    ends = {(len(best.tokens) < len(best.token_scores), len(best.token_scores)) for [best] in expected}
    assert len(ends) > 5, "the test is to see many lengths, ended by EOS and by the limit"
    assert_same(search.find(), expected)


def greedily(search: Search) -> list[list[Hypothesis]]:
    """Greedy search, one sentence at a time, in lists."""
    found = []
    for sentence, limit in search.limits.items():
        tokens = search.prefix.get(sentence, (IDS.bos,))[:1]
        scores: list[float] = []
        total = 0.0
        while len(scores) < limit and (not scores or tokens[-1] != IDS.eos):
            candidates = search.candidates(sentence, tokens)
            best = max(candidates, key=lambda token: candidates[token][0])
            tokens = (*tokens, best)
            total += candidates[best][0]
            scores.append(candidates[best][1])
        score = total / length_penalty(len(scores), search.settings.length_penalty)
        found.append([Hypothesis([token for token in tokens[1:] if token != IDS.eos], score, scores)])
    return found


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_batch_gives_what_its_sentences_give_alone(beam_size: int) -> None:
    model, settings = RandomModel(eos_logit=0.5), SearchSettings(beam_size=beam_size)
    limits = {sentence: 3 + sentence % 7 for sentence in range(13)}
    alone = [Search(model, {sentence: limit}, settings).find()[0] for sentence, limit in limits.items()]
    assert_same(Search(model, limits, settings).find(), alone)


@pytest.mark.parametrize("steps_per_check", [1, 8])
def test_a_large_vocabulary_is_ranked_in_two_stages_with_the_same_result(
    steps_per_check: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few sentences are done at a time, so that done ones, with nothing left to choose, stay in the batch."""
    check_every_step(monkeypatch, steps_per_check)
    limits = {sentence: 1 + sentence for sentence in range(7)}
    model = RandomModel(vocab_size=2503, eos_logit=4.0)
    search = Search(model, limits, SearchSettings(beam_size=2, n_best=2, min_length=0))
    assert_same(search.find(), search.expected())


PREFIXES = {
    0: (2,),
    1: (2, 5, 7),
    2: (9, 4),  # the first token can be any
    3: (2, 1, 0, 6),  # a forced token can be banned
    4: (3, 2),  # BART begins with EOS
    5: (2, 5, 3),  # ended by the prefix
    6: (2, 5, 8, 10, 4, 6),  # as long as the limit
}
PREFIX_LIMITS = {0: 3, 1: 9, 2: 5, 3: 11, 4: 2, 5: 7, 6: 5}


@pytest.mark.parametrize("steps_per_check", [1, 8])
@pytest.mark.parametrize("n_best", [1, 3])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_hypotheses_begin_with_their_prefix_and_continue_as_by_brute_force(
    alpha: float, n_best: int, steps_per_check: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_every_step(monkeypatch, steps_per_check)
    for beam_size, eos_logit in itertools.product([1, 3, 4], [-1.0, 0.5]):
        if n_best <= beam_size:
            settings = SearchSettings(beam_size=beam_size, n_best=n_best, length_penalty=alpha)
            search = Search(RandomModel(eos_logit=eos_logit), PREFIX_LIMITS, settings, prefix=PREFIXES)
            found = search.find()
            assert_same(found, greedily(search) if beam_size == 1 else search.expected())
            assert [len(found[5]), found[5][0].tokens] == [1, [5]]
            for hypotheses, prefix in zip(found, PREFIXES.values(), strict=True):
                assert all([*best.tokens, IDS.eos][: len(prefix) - 1] == list(prefix[1:]) for best in hypotheses)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_target_is_scored_by_a_prefix_that_ends_it(beam_size: int) -> None:
    """Forced decoding: the log-probability of every token of a given target."""
    model, targets = RandomModel(), {0: (2, 4, 7, 4, 3), 1: (2, 3), 2: (2, 9, 0, 3)}
    limits = {sentence: len(target) - 1 for sentence, target in targets.items()}
    for sentence, [only] in enumerate(Search(model, limits, SearchSettings(beam_size=beam_size), targets).find()):
        target = targets[sentence]
        steps = [model.log_probabilities(sentence, target[:place])[target[place]] for place in range(1, len(target))]
        assert only.tokens == list(target[1:-1])
        assert only.token_scores == pytest.approx(steps, abs=1e-4)
        assert only.score == pytest.approx(sum(steps) / length_penalty(len(steps), 0.6), abs=1e-4)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_what_the_limit_cuts_is_not_finished(beam_size: int) -> None:
    limits = dict.fromkeys(range(23), 4)
    settings = SearchSettings(beam_size=beam_size, n_best=beam_size, min_length=0)
    found = list(itertools.chain(*Search(RandomModel(), limits, settings).find()))
    assert {hypothesis.finished for hypothesis in found} == {True, False}
    for hypothesis in found:
        assert hypothesis.finished == (len(hypothesis.tokens) < 4)
        assert len(hypothesis.token_scores) == len(hypothesis.tokens) + hypothesis.finished


@pytest.mark.parametrize("prefix", [[], [[2]], [[2], []], [[2], [2], [2]]])
def test_a_prefix_has_a_token_for_each_sentence(prefix: list[list[int]]) -> None:
    with pytest.raises(UserError, match=r"^prefix has \d rows: .* of 2$"):
        beam_search(
            RandomModel().step,
            TokensSoFar([0, 1], [(), ()]),
            settings=SearchSettings(beam_size=1),
            max_length_B=torch.tensor([3, 3]),
            ids=IDS,
            prefix=prefix,
        )


def without_repetition(tokens: tuple[int, ...], values: list[float]) -> list[float]:
    """No token twice, and the token 7 not at all."""
    return [-float("inf") if token in (*tokens, 7) else value for token, value in enumerate(values)]


def by_turns(tokens: tuple[int, ...], values: list[float]) -> list[float]:
    """Another preference at even and at odd positions; never positive."""
    return [value - 2.0 * ((token + len(tokens)) % 2) for token, value in enumerate(values)]


@pytest.mark.parametrize("change", [without_repetition, by_turns])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_search_ranks_by_what_adjust_returns(change: Change, alpha: float) -> None:
    """The scores of the tokens stay the model's own. Forced tokens stay, whatever `adjust` says."""
    for beam_size, prefix in itertools.product([1, 2, 5], [{}, PREFIXES]):
        settings = SearchSettings(beam_size=beam_size, n_best=min(beam_size, 2), length_penalty=alpha)
        search = Search(RandomModel(eos_logit=-0.5), PREFIX_LIMITS, settings, prefix, change)
        found = search.find()
        assert_same(found, greedily(search) if beam_size == 1 else search.expected())
        assert found != Search(search.model, PREFIX_LIMITS, settings, prefix).find()


def test_without_adjust_the_scores_of_the_tokens_add_up_to_the_score() -> None:
    for beam_size in (1, 4):
        settings = SearchSettings(beam_size=beam_size, n_best=beam_size)
        for best in itertools.chain(*Search(RandomModel(eos_logit=-1.0), PREFIX_LIMITS, settings).find()):
            total = best.score * length_penalty(len(best.token_scores), settings.length_penalty)
            assert total == pytest.approx(sum(best.token_scores), abs=1e-4)


def test_sampling_is_an_adjustment_of_greedy_search() -> None:
    """The maximum of log-probabilities with Gumbel noise is a sample (Gumbel 1954), here at a temperature of 1.7."""
    temperature, generator = 1.7, torch.Generator(torch.get_default_device()).manual_seed(3)

    def sample(_: Tensor, log_prob_NV: Tensor) -> Tensor:
        uniform_NV = torch.rand(log_prob_NV.shape, generator=generator, dtype=log_prob_NV.dtype)
        return log_prob_NV / temperature - (-uniform_NV.log()).log()

    model, num_samples = RandomModel(vocab_size=7), 4000
    found = beam_search(
        model.step,
        TokensSoFar([5] * num_samples, [()] * num_samples),
        settings=SearchSettings(beam_size=1, min_length=0),
        max_length_B=torch.full((num_samples,), 1),
        ids=IDS,
        adjust=sample,
    )
    chosen = [(*best.tokens, IDS.eos)[0] for [best] in found]
    log_prob_V = torch.tensor(model.log_probabilities(5, (IDS.bos,)))[IDS.eos :]
    for token, share in enumerate((log_prob_V / temperature).softmax(dim=0).tolist(), start=IDS.eos):
        deviation = (share * (1 - share) / num_samples) ** 0.5
        assert chosen.count(token) / num_samples == pytest.approx(share, abs=5 * deviation)
    values = [best.token_scores[0] for [best] in found]
    assert values == pytest.approx([float(log_prob_V[token - IDS.eos]) for token in chosen], abs=1e-4)


@pytest.mark.parametrize("steps_per_check", [1, 3])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_every_step_shows_the_live_hypotheses(
    beam_size: int, steps_per_check: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_every_step(monkeypatch, steps_per_check)
    shown: dict[int, list[list[tuple[int, ...]]]] = {sentence: [] for sentence in PREFIXES}

    def show(sentence_B: Tensor, tokens_BWT: Tensor) -> None:
        for sentence, rows in zip(sentence_B.tolist(), tokens_BWT.tolist(), strict=True):
            shown[sentence].append([tuple(row) for row in rows])

    settings = SearchSettings(beam_size=beam_size)
    search = Search(RandomModel(eos_logit=-0.5), PREFIX_LIMITS, settings, prefix=PREFIXES)
    found = search.find(on_step=show)
    assert found == search.find()
    for sentence, steps in shown.items():
        tokens = [*PREFIXES[sentence][:1], *found[sentence][0].tokens, IDS.eos]
        if beam_size == 1:
            assert steps == [[tuple(tokens[: length + 1])] for length in range(1, len(steps) + 1)]
            assert len(steps) == len(found[sentence][0].token_scores)
        else:
            _, history = search.by_the_book(sentence)
            assert len(steps) >= len(found[sentence][0].token_scores)
            # A forced prefix leaves one live hypothesis.
            assert [rows[: len(live)] for rows, live in zip(steps, history, strict=False)] == history[: len(steps)]
