"""The processes of a run: how they start and meet.

All of it comes before `trainer.fit`, in which ranks with other settings would wait for each other forever.
"""

from collections.abc import Mapping
from typing import Any

import lightning as L
from jsonargparse import Namespace

from lit_transformer.runs.provenance import code_version
from lit_transformer.runs.ranks import check_ranks

OWN_SETTINGS = ("config", "data.cache_dir", "data.num_workers")
"""Settings in which ranks may differ: nothing that is computed depends on them."""


def start_processes(trainer: L.Trainer) -> None:
    """Start the other ranks and join their process group. `trainer.fit` then finds both done."""
    launcher, join = trainer.strategy.launcher, trainer.strategy.setup_environment
    if launcher is None:
        join()
    else:
        launcher.launch(join, trainer=trainer)


def check_settings_of_ranks(trainer: L.Trainer, settings: Namespace) -> None:
    """Raise UserError on all ranks if the code or a setting of one of them differs from rank 0's."""
    mine = {name: value for name, value in flat(settings.as_dict()).items() if name not in OWN_SETTINGS}
    # Each rank chooses the default by what its processor can do.
    mine["trainer.precision"] = trainer.precision
    check_ranks({**mine, "rank": trainer.global_rank, "code": code_version()})


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Nested settings under dotted names, as plain values; what is not set is left out."""
    values: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            values[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return values
