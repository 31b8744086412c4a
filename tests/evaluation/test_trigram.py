"""The trigram that sees the neighbors on both sides."""

from lit_transformer.evaluation.trigram import BORDER, Trigram

SENTENCES = [[4, 5, 6], [4, 7, 6], [4, 7, 6], [8, 9, 9], [8, 9, 5]]
MODEL = Trigram(SENTENCES)


def test_takes_the_token_that_is_most_often_between_both_neighbors() -> None:
    assert MODEL.guess(4, 6) == 7
    assert MODEL.guess(BORDER, 7) == 4


def test_backs_off_to_the_neighbor_that_is_surer() -> None:
    assert MODEL.guess(8, 6) == 9  # after 8 always 9; before 6, two of three are 7
    assert MODEL.guess(9, 6) == 7  # after 9, a third each; before 6, two of three are 7
    assert MODEL.guess(8, None) == 9
    assert MODEL.guess(None, 6) == 7


def test_without_a_known_neighbor_it_is_the_most_frequent_token() -> None:
    frequent = Trigram([[4, 5], [6, 5], [7, 5]])
    assert frequent.guess(None, None) == 5
    assert frequent.guess(99, 99) == 5


def test_hidden_neighbors_are_not_seen() -> None:
    model = Trigram([[4, 5, 6, 7], [4, 5, 6, 7], [9, 5, 8, 8]])
    row, hidden = [9, 5, 6, 7], [False, True, True, False]
    assert model.fill(row, hidden, left_is_known=False) == [5, 6]
    # Without its left neighbor, 5 is guessed from 6. With teacher forcing, 6 is guessed from 5 and 7.
    assert model.fill([4, 8, 6, 7], [False, True, True, False], left_is_known=False) == [5, 6]
    assert model.fill([4, 8, 8, BORDER], [False, False, True, False], left_is_known=True) == [8]
