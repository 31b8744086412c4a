"""Misspelt names."""

import pytest

from lit_transformer.cli.suggestions import did_you_mean, suggest_option

OPTIONS = [
    *("--config", "--trainer", "--trainer.logger", "--trainer.logger.help", "--trainer.max_steps"),
    *("--trainer.min_steps", "--model.transformer.d_model", "--beam_size"),
]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("--beam", "--beam_size"),
        ("--beam-size=3", "--beam_size"),
        ("--max_steps", "--trainer.max_steps"),
        ("--d_model", "--model.transformer.d_model"),
        ("--trainer.max_step", "--trainer.max_steps"),
        ("--trainer.d_model", "--model.transformer.d_model"),
    ],
)
def test_the_most_similar_option(wrong: str, right: str) -> None:
    assert suggest_option(["--config", "x", wrong, "--zzz"], OPTIONS).endswith(f" {right}?")


def test_nothing_is_similar() -> None:
    """The section alone is no likeness."""
    assert suggest_option(["--trainer.bogus"], OPTIONS) == ""
    assert suggest_option(["--trainer.logger.max_step"], OPTIONS) == ""  # an argument of a class
    assert suggest_option(["--config", "bean_size", "--qqq"], OPTIONS) == ""
    assert did_you_mean("fit", ["translate"]) == ""
