"""The start of a run: its processes and their settings.

All of it comes before `trainer.fit`, in which ranks with other settings would wait for each other forever.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Timer
from typing import Any

import lightning as L
from jsonargparse import Namespace
from torch import distributed

from lit_transformer.notes import print_note
from lit_transformer.runs.provenance import code_version
from lit_transformer.runs.ranks import check_ranks

OWN_SETTINGS = ("config", "data.cache_dir", "data.num_workers")
"""Settings in which ranks may differ, because no number depends on them."""
MEETING_SECONDS = 30.0
"""After this time a rank reports that it waits for the others."""


def start_processes(trainer: L.Trainer) -> None:
    """Start the other ranks and join their process group. `trainer.fit` then finds both done."""
    launcher, join = trainer.strategy.launcher, trainer.strategy.setup_environment
    if launcher is None:
        join()
    else:
        launcher.launch(join, trainer=trainer)


@contextmanager
def waiting_noted(trainer: L.Trainer) -> Iterator[None]:
    """Print a note if the ranks have not met after `MEETING_SECONDS`."""

    def note() -> None:
        if not distributed.is_initialized():
            print_note(
                f"rank {trainer.global_rank} waits for the other processes of {trainer.world_size} at "
                f"{meeting_point()}. A launcher (torchrun, srun) must start all of them: num_nodes is "
                f"{trainer.num_nodes}"
            )

    timer = Timer(MEETING_SECONDS, note)
    timer.daemon = True
    if trainer.world_size > 1:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def meeting_point() -> str:
    """Return the address and port at which the ranks of a run meet."""
    return f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"


def check_settings_of_ranks(trainer: L.Trainer, settings: Namespace) -> None:
    """Raise UserError on all ranks if the code or a setting of one of them differs from rank 0's."""
    mine = {name: value for name, value in flat(settings.as_dict()).items() if name not in OWN_SETTINGS}
    # The default depends on the processor of each rank.
    mine["trainer.precision"] = trainer.precision
    check_ranks({**mine, "rank": trainer.global_rank, "code": code_version()})


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Return nested settings under dotted names, as plain values. Settings without a value are left out."""
    values: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        elif value is not None:
            values[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return values
