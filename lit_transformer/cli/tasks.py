"""What `fit` and `check` train: one table of tasks, and the task that arguments and their YAML files name.

It imports neither torch nor Lightning, so that `--help` is instant.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from lit_transformer.cli.recipes import recipe_path
from lit_transformer.cli.suggestions import did_you_mean
from lit_transformer.errors import UserError


class Task(NamedTuple):
    """A task, and the classes that train it."""

    name: str
    model: tuple[str, str]
    """The file in the package and the class of the LightningModule. Their arguments are the section `model`."""
    data: tuple[str, str]
    """Those of the LightningDataModule, and the section `data`."""
    commands: tuple[str, ...]
    """What to type after training. `{run}` is the run's folder, and `{test_set}` what is left to test on."""
    has_attention_curves: bool = False
    """Whether validation draws attention."""

    @property
    def classes(self) -> tuple[Any, Any]:
        """The two classes."""
        model, data = (
            getattr(import_module(f"lit_transformer.{file.removesuffix('.py').replace('/', '.')}"), name)
            for file, name in (self.model, self.data)
        )
        return model, data


TEXT = ("data/text_data.py", "TextData")
ATTENTION = "attention --checkpoint {run} --text TEXT --output attention.html"
ATTENTION_OF_BOTH = "attention --checkpoint {run} --text TEXT --target TEXT --output attention.html"
TASKS = {
    task.name: task
    for task in (
        Task(
            "translation",
            ("training/translation.py", "LitTransformer"),
            ("data/datamodule.py", "TranslationData"),
            ("test --checkpoint {run} --corpus {test_set}", "translate --checkpoint {run}"),
            has_attention_curves=True,
        ),
        Task(
            "causal_lm", ("training/gpt.py", "LitGPT"), TEXT, ("generate --checkpoint {run} --prompt TEXT", ATTENTION)
        ),
        Task("masked_lm", ("training/bert.py", "LitBERT"), TEXT, (ATTENTION,)),
        Task("text_infilling", ("training/denoising.py", "LitBART"), TEXT, (ATTENTION_OF_BOTH,)),
        Task("span_corruption", ("training/denoising.py", "LitT5"), TEXT, (ATTENTION_OF_BOTH,)),
        Task("image_classification", ("training/vit.py", "LitViT"), ("data/image_data.py", "ImageData"), ()),
    )
}
"""All tasks by name. The first one is the default."""
DEFAULT = TASKS["translation"]
_SETTING = re.compile(r"""^(?:\{ *)?task *: *["']?([\w-]+)""", re.MULTILINE)
"""The setting at the top level of a YAML file."""


def find_task(args: Sequence[str]) -> Task:
    """Return the task that the arguments of `fit` or `check` name, directly or in a YAML file. The last one counts.

    Raises:
        UserError: There is no such task, or no such recipe.
    """
    name = DEFAULT.name
    for option, value in _values(args):
        name = value if option == "--task" else _task_in(recipe_path(value), name)
    if name not in TASKS:
        raise UserError(f"task is {name}: there is no such task{did_you_mean(name, TASKS)} (tasks: {', '.join(TASKS)})")
    return TASKS[name]


def task_of(model: type) -> Task:
    """Return the task of a LightningModule's class."""
    return next(task for task in TASKS.values() if task.model[1] == model.__name__)


def _values(args: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield `--task` and `--config` with their values. Arguments before the first option are values of `--config`."""
    while args and not args[0].startswith("-"):
        yield "--config", args[0]
        args = args[1:]
    for argument, following in pairwise([*args, ""]):
        option, equals, value = argument.partition("=")
        if option in ("--task", "--config", "-c"):
            yield "--config" if option == "-c" else option, value if equals else following


def _task_in(config: str, default: str) -> str:
    """Return the task in a YAML file or in the YAML text that takes its place."""
    text = config
    with suppress(OSError, ValueError):  # it is no file, or the parser will report what is wrong with it
        text = Path(config).read_text(encoding="utf-8")
    found = _SETTING.search(text)
    return found[1] if found else default
