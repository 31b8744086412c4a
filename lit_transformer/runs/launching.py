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
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from torch import distributed

from lit_transformer.errors import UserError
from lit_transformer.notes import print_note
from lit_transformer.runs.private_names import cluster_of
from lit_transformer.runs.provenance import code_version
from lit_transformer.runs.ranks import check_ranks

OWN_SETTINGS = ("config", "data.cache_dir", "data.num_workers")
"""Settings in which ranks may differ, because no number depends on them."""
MEETING_SECONDS = 30.0
"""After this time a rank reports that it waits for the others."""


def devices_of_torchrun(devices: object, num_nodes: int) -> dict[str, int]:
    """Return the trainer's `devices` and `num_nodes` that fit the processes of torchrun, if the user leaves them open.

    Args:
        devices: The user's setting. `auto` leaves it open.
        num_nodes: The user's setting. 1 leaves it open.
    """
    if not (distributed.is_available() and distributed.is_torchelastic_launched()) or devices != "auto":
        return {}
    here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    return {"devices": here, "num_nodes": everywhere // here if num_nodes == 1 else num_nodes}


def check_launcher(trainer: L.Trainer) -> None:
    """Raise UserError unless the launcher has started as many processes as the run has devices.

    Otherwise each process would train alone, or wait for others that do not come.
    """
    cluster, settings = cluster_of(trainer), f"devices is {trainer.num_devices} and num_nodes is {trainer.num_nodes}"
    started = expected = trainer.num_devices * trainer.num_nodes
    if not isinstance(cluster, LightningEnvironment):
        started = cluster.world_size()
    elif cluster.creates_processes_externally or started == 1:  # it does not read WORLD_SIZE itself
        started = int(os.environ.get("WORLD_SIZE", started))
    if started != expected:
        raise UserError(
            f"{settings}, but the launcher (torchrun, srun, WORLD_SIZE) has started {started} processes: devices x "
            f"num_nodes must be {started}"
        )
    if isinstance(cluster, LightningEnvironment) and trainer.num_nodes > 1 and "MASTER_ADDR" not in os.environ:
        raise UserError(
            f"{settings}, but no launcher has started this process: use torchrun or srun, or set MASTER_ADDR, "
            "MASTER_PORT and NODE_RANK on every node"
        )


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


def flat(settings: Mapping[Any, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    """Return nested settings under dotted names, as plain values. Settings without a value are left out."""
    values: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and any(isinstance(part, Mapping) for part in value):  # callbacks, plugins
            values |= flat({str(number): part for number, part in enumerate(value)}, f"{prefix}{name}.")
        elif value is not None:
            plain = list(value) if isinstance(value, tuple) else value  # a YAML file gives a list
            values[f"{prefix}{name}"] = plain if isinstance(plain, bool | int | float | str) else str(plain)
    return values
