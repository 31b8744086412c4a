"""Kneser-Ney smoothing against nltk's, and as a distribution."""

import numpy as np
import pytest
from nltk.lm import KneserNeyInterpolated

from lit_transformer.evaluation.kneser_ney import KneserNey

SENTENCES = [[5, 7, 8, 3], [5, 7, 9, 3], [7, 8, 8, 8, 3], [6, 5, 7, 8, 3], [3]]


@pytest.mark.parametrize("order", [2, 3, 5])
def test_equals_nltk_where_every_token_is_known(order: int) -> None:
    """Without a discount for single tokens, the lowest order leaves nothing to unknown ones, as in nltk."""
    discount = 0.3
    discounts = [(0.0, 0.0, 0.0), *[(discount,) * 3] * (order - 1)]
    ours = KneserNey(SENTENCES, vocab_size=11, order=order, discounts=discounts)

    def windows(sentences: list[list[int]]) -> list[tuple[str, ...]]:
        padded = [[*["start"] * (order - 1), *map(str, sentence)] for sentence in sentences]
        return [tuple(each[end - order : end]) for each in padded for end in range(order, len(each) + 1)]

    theirs = KneserNeyInterpolated(order, discount=discount)
    grams = [[window[order - size :] for size in range(1, order + 1)] for window in windows(SENTENCES)]
    theirs.fit(grams, vocabulary_text=["start", *map(str, range(3, 10))])

    tested = [[5, 7, 8, 3], [8, 5, 9, 7, 6, 3], [9, 9, 8]]
    found = np.exp(ours.log_probabilities(tested))
    expected = [theirs.unmasked_score(token, tuple(history)) for *history, token in windows(tested)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("history", [[], [5, 7], [7, 8, 8, 8], [9, 10, 6, 5], [10]])
def test_sums_to_one_over_the_vocabulary(history: list[int]) -> None:
    model = KneserNey(SENTENCES, vocab_size=11)
    last = [model.log_probabilities([[*history, token]])[-1] for token in range(11)]
    assert np.exp(last).sum() == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(last).all()  # 10 is in no sentence


def test_estimates_the_discounts_of_chen_and_goodman() -> None:
    """With order 1, a probability is the discounted count and the token's part of what the discounts leave."""
    counts = {4: 1, 5: 1, 6: 1, 7: 1, 8: 2, 9: 2, 10: 3, 11: 4}
    text = [[token] for token, count in counts.items() for _ in range(count)]
    share = 4 / (4 + 2 * 2)
    one, two, more = 1 - 2 * share * 2 / 4, 2 - 3 * share * 1 / 2, 3 - 4 * share * 1 / 1
    left = (4 * one + 2 * two + 2 * more) / 15
    found = np.exp(KneserNey(text, vocab_size=13, order=1).log_probabilities([[4], [8], [11], [12]]))
    expected = [(1 - one) / 15 + left / 13, (2 - two) / 15 + left / 13, (4 - more) / 15 + left / 13, left / 13]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_longer_histories_help_on_text_with_structure() -> None:
    text = [[4, 5, 6, 7], [8, 5, 6, 9]] * 20
    tested = [[4, 5, 6, 7], [8, 5, 6, 9]]
    mean = {order: KneserNey(text, vocab_size=10, order=order).log_probabilities(tested).mean() for order in (1, 2, 5)}
    assert mean[1] < mean[2] < mean[5]
