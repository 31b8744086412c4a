"""The settings of `fit` and `check`: their sections, the trainer's defaults, and `--help`."""

import ast
import re
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from lit_transformer.cli.commands import COMMANDS
from lit_transformer.cli.recipes import recipes
from lit_transformer.cli.signatures import Signature, read_signature
from lit_transformer.cli.suggestions import did_you_mean
from lit_transformer.cli.tasks import DEFAULT, TASKS, Task, find_task
from lit_transformer.errors import UserError

SECTIONS = {
    "model": ("lit_transformer", "training/translation.py", "LitTransformer"),
    "model.transformer": ("lit_transformer", "model/config.py", "TransformerConfig"),
    "data": ("lit_transformer", "data/datamodule.py", "TranslationData"),
    "best_checkpoint": ("lit_transformer", "runs/saving.py", "BestCheckpoint"),
    "checkpoints": ("lit_transformer", "runs/saving.py", "Checkpoints"),
    "attention": ("lit_transformer", "runs/attention_curves.py", "AttentionCurves"),
    "trainer": ("lightning", "pytorch/trainer/trainer.py", "Trainer"),
}
"""The class whose arguments are the settings of a section: its package, file and name. `model` and `data` are those of
translation."""
NO_SETTINGS = (
    "model.transformer",
    "model.seed",
    "data.seed",
    "data.vocab_size",
    "data.source_vocab_size",
    "data.max_positions",
    "data.image_size",
    "data.num_channels",
)
"""Arguments that are a section of their own or follow from other settings."""
TRAINER_DEFAULTS: dict[str, Any] = {
    "default_root_dir": "runs",
    "max_steps": 100_000,  # section 5.2: base; recipes count everything in optimizer steps
    "max_epochs": -1,
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 50,
    "use_distributed_sampler": False,  # the batch plan splits the data over ranks
    "enable_model_summary": False,
}
"""What differs from Lightning's own defaults."""
VAL_CHECK_INTERVAL = 2000
"""Optimizer steps between validations, unless they are counted in epochs."""
TRAINER_SUMMARY = "Lightning's Trainer. Here, all intervals and limits of training count optimizer steps."
NO_EFFECT = {
    "limit_test_batches": "fit does not test",
    "limit_predict_batches": "fit does not predict",
    "inference_mode": "fit only trains and validates",
    "sync_batchnorm": "the model has no batch normalization",
    "use_distributed_sampler": "the batch plan splits the data over ranks",
}
"""Settings of the trainer that change nothing here, with the reasons."""
TRAINER_DESCRIPTIONS = {
    "strategy": "`ddp` copies the model to each device, `fsdp` shards it. `auto` is `ddp` for several devices.",
    "precision": "Such as `32-true`, `bf16-mixed`, `16-mixed`. By default, `bf16-mixed` if the device multiplies in "
    "bfloat16, else `32-true`.",
    "logger": "Loggers of Lightning, by class, such as `CSVLogger`. `--trainer.logger+=NAME` adds another one. By "
    "default, `TensorBoardLogger`. `false` logs nothing.",
    "callbacks": "Callbacks of Lightning or your own, by class, such as `EarlyStopping`. `--trainer.callbacks+=NAME` "
    "adds another one.",
    "max_epochs": "Passes over the training text. The run ends at max_epochs or max_steps. -1 is no limit.",
    "check_val_every_n_epoch": "Epochs from one validation to the next, which is at the end of an epoch. If "
    "val_check_interval is given, too, it counts from the start of such an epoch. By default, there is no such rule.",
    "max_steps": "Optimizer steps of the run. -1 is no limit.",
    "max_time": "Training time of the run over all its starts, as DD:HH:MM:SS. By default, there is no limit.",
    "limit_train_batches": "An integer is the number of optimizer steps of an epoch. A number with a decimal point is "
    "a share of them. By default, all.",
    "overfit_batches": "Every epoch repeats the same optimizer steps. An integer is their number. A number with a "
    "decimal point is a share of an epoch. Validation takes as many batches of its own. 0 takes all data.",
    "val_check_interval": "An integer is the number of optimizer steps between validations. A number with a decimal "
    f"point is a share of an epoch. By default, {VAL_CHECK_INTERVAL}, or the end of an epoch if "
    "check_val_every_n_epoch is given.",
    "limit_val_batches": "An integer is the number of validation batches of a device. A number with a decimal point is "
    "a share of them. The batches have sentences of all lengths. By default, all.",
    "num_sanity_val_steps": "Validation batches before the first step. -1 takes all.",
    "enable_checkpointing": "Whether checkpoints are saved. By default, they are.",
    "enable_progress_bar": "`true` shows a live bar, `false` prints lines. By default, a terminal has the bar.",
    "enable_model_summary": "Whether a table of the model's parts is printed.",
    "profiler": "`simple`, `advanced` or `pytorch`. The report is printed at the end.",
    "log_every_n_steps": "Optimizer steps between the points of the training curves.",
    "accumulate_grad_batches": "Follows from data.max_tokens_per_device: leave it out.",
    **{name: f"Has no effect, because {reason}." for name, reason in NO_EFFECT.items()},
    "default_root_dir": "Folder for runs, on this machine.",
}
"""What Lightning's own descriptions would say wrong."""
MAX_WIDTH = 120
INDENT = 6 * " "


def print_requested_help(command: str, arguments: Sequence[str], own_options: Mapping[str, str] | None = None) -> bool:
    """Print the help that a command's arguments ask for: all of it, or one section.

    Args:
        command: `fit` or `check`.
        arguments: Its arguments. `--help` or `-h` asks for help, and the name of a section may follow.
        own_options: Options of this command only, with their descriptions.

    Returns:
        Whether help was asked for.

    Raises:
        UserError: If there is no such section.
    """
    words = [word for argument in arguments for word in re.split(r"(?<=^--help)=", argument)]
    asked = [following for word, following in pairwise([*words, "-"]) if word in ("-h", "--help")]
    if not asked:
        return False
    section = "" if asked[0].startswith("-") else asked[0]
    task = find_task(arguments)
    sections = sections_of(task)
    shown = [name for name in sections if f"{name}.".startswith(f"{section}.") or not section]
    if not shown:
        raise UserError(
            f"--help {section}: there is no such section{did_you_mean(section, sections)} "
            f"(sections: {', '.join(sections)})"
        )
    if not section:
        print(f"usage: python -m lit_transformer.{command} [NAME_OR_FILE] [OPTIONS] [--SECTION.SETTING VALUE ...]\n")
        print(f"{COMMANDS[command]}\n\nOptions:")
        for option, text in {**_general_options(), **(own_options or {})}.items():
            _print_option(option, text)
    for name in shown:
        _print_section(name, task)
    return True


def sections_of(task: Task) -> dict[str, tuple[str, str, str]]:
    """Return the sections of a task, as in `SECTIONS`."""
    own = {"model": ("lit_transformer", *task.model), "data": ("lit_transformer", *task.data)}
    return {
        name: own.get(name, place)
        for name, place in SECTIONS.items()
        if name != "attention" or task.has_attention_curves
    }


def settings_of(task: Task) -> list[str]:
    """Return the full names of the settings in all sections of a task."""
    names = (
        f"{section}.{each.name}" for section in sections_of(task) for each in read_section(section, task).arguments
    )
    return [name for name in names if name not in NO_SETTINGS]


def _general_options() -> dict[str, str]:
    return {
        "--config NAME_OR_FILE": "A recipe, or a YAML file of settings. The option can be repeated: later values win. "
        "At the beginning, the name or file alone is enough. "
        f"Recipes: {', '.join(recipes())}.",
        "--task NAME": f"What is trained: {', '.join(TASKS)} (default: {DEFAULT.name}). Recipes name it, too. "
        "`--task NAME --help` prints its settings.",
        "--seed_everything SEED": "Seed of the weights, of dropout and of the order of the data (default: 1). `true` "
        "chooses a random seed.",
        "--name NAME": "Name of the run: its folder below trainer.default_root_dir (default: version_N, with the next "
        "free number).",
        "--ckpt_path FILE": "Checkpoint to resume from. `last` means the newest readable one below "
        "trainer.default_root_dir, or of the run that --name names. `auto` means the same, or a new run if there is "
        "none.",
        "--init_from PLACE": "Trained model to fine-tune: a checkpoint, a run folder, a model folder, or hf:NAME. Its "
        "weights, architecture and vocabulary are taken. The run begins at step 0.",
        "--devices N": "Short for --trainer.devices.",
        "--print_config": "Print all settings as YAML, without training.",
        "--help [SECTION]": f"Print all settings, or those of one section: {', '.join(SECTIONS)}.",
    }


def read_section(section: str, task: Task = DEFAULT) -> Signature:
    """What a section is about, and its arguments. The defaults of the architecture are those of the task's model."""
    package, file, name = sections_of(task)[section]
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    signature = read_signature(Path(found.origin).parent / file, name)
    if section != "model.transformer":
        return signature
    [default] = [
        argument.default for argument in read_section("model", task).arguments if argument.name == "transformer"
    ]
    call = ast.parse(default, mode="eval").body
    assert isinstance(call, ast.Call)
    own = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    arguments = [each._replace(default=own.get(each.name, each.default)) for each in signature.arguments]
    return Signature(signature.summary, arguments)


def spell_settings(message: str) -> str:
    """Put the section before each setting that a message names: `d_ff is 0` becomes `model.transformer.d_ff is 0`.

    A setting that is also a word, such as `source`, is one only where the message begins with it.
    """
    full_names = {
        full.rpartition(".")[2]: full
        for task in reversed(TASKS.values())  # the names of translation win
        for full in settings_of(task)
    }
    return re.sub(
        r"^[a-z_]+(?= (?:is|has) )|(?<![\w./-])[a-z]+(_[a-z]+)+(?![\w/-]|\.\w)",
        lambda found: full_names.get(found[0], found[0]),
        message,
    )


def _print_section(section: str, task: Task) -> None:
    summary, arguments = read_section(section, task)
    changed = {name: repr(value) for name, value in TRAINER_DEFAULTS.items() if section == "trainer"}
    print(f"\n{section}: {TRAINER_SUMMARY if section == 'trainer' else summary}")
    for argument in arguments:
        if f"{section}.{argument.name}" not in NO_SETTINGS:
            type, default = (
                text.replace("None", "null") for text in (argument.type, changed.get(argument.name, argument.default))
            )
            text = TRAINER_DESCRIPTIONS.get(argument.name) if section == "trainer" else None
            description = text or _without_markup(argument.description)
            _print_option(f"--{section}.{argument.name} ({type}, default: {default})", description)


def _without_markup(description: str) -> str:
    """Lightning's description without Sphinx's roles, and without its default, which may be another one here."""
    description = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`|``(.*?)``", r"`\1\2`", description)
    return re.sub(r" Default: `[^`]*`\.?$", "", description)


def _print_option(option: str, description: str) -> None:
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    print(textwrap.fill(option, width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))
    print(textwrap.fill(description, width, initial_indent=INDENT, subsequent_indent=INDENT))
