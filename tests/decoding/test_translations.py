"""Translations of a text that are joined from those of its parts."""

from lit_transformer.decoding.translations import Translation, join_parts


def test_finished_parts_come_first() -> None:
    """Whatever the scores. A text is finished if all of its parts are."""
    first = [Translation("a", -3.0, finished=True), Translation("b", -1.0, finished=False)]
    second = [Translation("c", -2.0, finished=True)]
    assert join_parts([first, second], n_best=2) == [("a c", -5.0, True), ("b c", -3.0, False)]
