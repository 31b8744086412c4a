"""Suggestions for misspelt names of commands, options and recipes."""

from collections.abc import Collection, Iterable
from difflib import SequenceMatcher


def did_you_mean(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The end of an error message: the known name that is most similar, or nothing if none is.

    A name may also lack its section: `--max_steps` stands for `--trainer.max_steps`.
    """

    def similarity(option: str) -> tuple[float, bool, float]:
        full = option.lstrip("-")
        section, _, last = full.rpartition(".")
        whole, alike = _ratio(wanted, full), _ratio(wanted_last, last)
        if not wanted_section:  # sections are no likeness
            alike = max(alike, whole)
        return alike, section == wanted_section, whole

    wanted = name.lstrip("-")
    wanted_section, _, wanted_last = wanted.rpartition(".")
    nearest = max(known, key=similarity, default=None)
    return f"; did you mean {nearest}?" if nearest is not None and similarity(nearest)[0] >= cutoff else ""


def suggest_option(arguments: Iterable[str], options: Collection[str]) -> str:
    """The suggestion for the first of a command's arguments that looks like an option and is none.

    `--trainer.callbacks.patience` is an argument of the class that `--trainer.callbacks` names.
    """
    given = (argument.partition("=")[0] for argument in arguments if argument.startswith("--"))
    unknown = (name for name in given if name not in options and not _names_class(name.rpartition(".")[0], options))
    suggestions = (did_you_mean(name, options) for name in unknown)
    return next(filter(None, suggestions), "")


def _names_class(option: str, options: Collection[str]) -> bool:
    """Whether an option can name a class. A section has options of its own, and a class has only its help."""
    inner = [name for name in options if name.startswith(f"{option}.")]
    return option in options and all(name == f"{option}.help" for name in inner)


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
