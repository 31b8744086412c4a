"""Suggestions for misspelt names of commands, options and recipes."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The end of an error message: the known name that is most similar, or nothing if none is.

    A name may also lack its section: `--max_steps` stands for `--trainer.max_steps`.
    """
    spellings = {spelling: full for full in known for spelling in (full.rpartition(".")[2], full.lstrip("-"), full)}
    matches = get_close_matches(name.lstrip("-"), spellings, n=1, cutoff=cutoff)
    return f"; did you mean {spellings[matches[0]]}?" if matches else ""


def suggest_option(arguments: Iterable[str], options: Collection[str]) -> str:
    """The suggestion for the first of a command's arguments that looks like an option and is none."""
    given = (argument.partition("=")[0] for argument in arguments if argument.startswith("--"))
    suggestions = (did_you_mean(name, options) for name in given if name not in options)
    return next(filter(None, suggestions), "")
