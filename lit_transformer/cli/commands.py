"""The commands: their names, and the parser and steps that they share."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from lit_transformer.cli.frame import torch_kept, user_errors_to_exit
from lit_transformer.cli.suggestions import suggest_option
from lit_transformer.errors import UserError
from lit_transformer.machine import prepare_process

COMMANDS = {
    "fit": "Train a model, by default the paper's base model on WMT14 English-German.",
    "check": "Predict the size, time and memory of a run of `fit` with the same options.",
    "test": "Translate a split of a corpus and score it with BLEU and chrF.",
    "translate": "Translate stdin to stdout, one sentence per line.",
    "generate": "Continue prompts with a trained GPT, drawn at random or searched for.",
    "average": "Average the weights of a run's last checkpoints (section 6.1).",
    "export": "Write a trained model for CTranslate2 or Hugging Face, to translate without lit_transformer.",
    "attention": "Show what a model attends to, as an interactive page, a picture or numbers.",
    "align": "Link the words of sentence pairs by cross-attention, one line per pair.",
    "benchmark": "Measure the speed of training and translating, beside that of other projects.",
}
"""What each command does. The module of the same name runs it."""

Result = TypeVar("Result")


class Parser(argparse.ArgumentParser):
    """The parser of a command. Its errors are user errors, and options cannot be abbreviated."""

    def __init__(self, command: str) -> None:
        super().__init__(prog=f"python -m lit_transformer.{command}", description=COMMANDS[command], allow_abbrev=False)
        self._arguments: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._arguments = sys.argv[1:] if args is None else args
        # Python's parser takes this value away before it looks for one.
        if bare := [argument for argument in self._arguments if re.fullmatch(r"--.*=--", argument)]:
            self.error(f"{bare[0]}: `--` is no value")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        options = self._option_string_actions
        given = (argument.partition("=")[0] for argument in self._arguments if argument.startswith("--"))
        # Python's parser reports options that are missing before those that it does not know.
        unknown = next((name for name in given if name not in options), "")
        if unknown not in message:
            message += f"; unrecognized: {unknown}"
        suggestion = suggest_option(self._arguments, options)
        raise UserError(f"{message}{suggestion} (all options: --help)")


def run_command(
    command: str,
    args: Sequence[str] | None,
    add_options: Callable[[argparse.ArgumentParser], None],
    run: Callable[[argparse.Namespace], Result],
) -> Result:
    """Parse and run, and turn mistakes into exit statuses. Return what `run` returns.

    Args:
        command: Its name.
        args: Its arguments. None means those of the process.
        add_options: Adds the command's options to its parser.
        run: The work. It imports heavy packages itself, so that `--help` and a misspelt option are answered at once.
    """
    with user_errors_to_exit(), torch_kept():
        parser = Parser(command)
        add_options(parser)
        options = parser.parse_args(args)
        prepare_process()
        return run(options)
