"""Changed settings: what differs from the start that wrote a checkpoint is listed, and takes effect at once.

Lightning restores the settings of the optimizer and the learning rate with the optimizer's state. Here, the settings of
this start replace them.
"""

import warnings
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from lit_transformer.notes import print_note

PLACES = ("config", "name", "ckpt_path", "trainer.default_root_dir")
"""Settings that say where a run lies, and not what it does."""
FACTS = ("trainer.precision", "trainer.devices", "trainer.num_nodes")
"""Settings of facts that `provenance` compares."""
KINDS = "optimizer_kinds"
"""Entry of the state that has the names of the optimizers' classes."""
_LONGEST = 80
"""Characters of a value in the note."""


class ChangedSettings(Callback):
    """Compares the settings of this start with those of the checkpoint, and puts the changed ones into effect."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] = {}
        self._new: dict[str, list[Any]] = {}
        """Settings of the optimizers and schedules before the checkpoint's are restored."""
        self._former: dict[str, Any] | None = None

    def record(self, settings: Mapping[str, Any]) -> None:
        """Take over the settings of this start, by their dotted names."""
        self._settings = {name: value for name, value in settings.items() if name not in PLACES}

    def state_dict(self) -> dict[str, Any]:
        return {"settings": self._settings, **self._new}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # Checkpoints of earlier versions have none.
        self._former = checkpoint["callbacks"].get(self.state_key, {})

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        schedules = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
        self._new = deepcopy({"optimizers": [_groups(each) for each in trainer.optimizers], "schedules": schedules})
        self._new[KINDS] = [type(optimizer).__name__ for optimizer in trainer.optimizers]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._former is None:
            return
        settings, mine = self._former.get("settings", self._settings), self._settings
        if KINDS not in self._former:  # version 0.1 had other settings
            common = settings.keys() & mine.keys()
            settings, mine = ({name: each[name] for name in mine if name in common} for each in (settings, mine))
        changes = [*_changes(settings, mine)]
        effects: list[str] = []
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        for number, optimizer in enumerate(trainer.optimizers):
            former = self._former.get("optimizers", [_groups(each) for each in trainer.optimizers])[number]
            effects += _put_into_effect(optimizer, former, self._new["optimizers"][number])
        for number, schedule in enumerate(schedules):
            former = self._former.get("schedules", self._new["schedules"])[number]
            effects += _continue_schedule(schedule, former, self._new["schedules"][number])
        # What follows from settings that are listed is not listed again.
        changes = changes or effects
        if changes and trainer.is_global_zero:
            print_note(f"settings that differ from those of the checkpoint: {', '.join(changes)}")


def replay_other_schedule(checkpoint: Mapping[str, Any], schedule: LRScheduler) -> bool:
    """Give a checkpoint the state of a schedule that it does not have, as if the run had always had that one.

    Args:
        checkpoint: Its content, which is changed if its schedule is of another kind.
        schedule: A new schedule of this run, which is used up.

    Returns:
        Whether the checkpoint had another kind.
    """
    [saved] = checkpoint["lr_schedulers"]
    if saved.keys() == schedule.state_dict().keys():
        return False
    # Only validations step a schedule that waits for a plateau.
    steps = 0 if isinstance(schedule, ReduceLROnPlateau) else checkpoint["global_step"]
    with warnings.catch_warnings(action="ignore"):  # the optimizer takes no steps
        for _ in range(steps):
            schedule.step()
    saved.clear()
    saved.update(schedule.state_dict())
    [optimizer] = checkpoint["optimizer_states"]
    for group, mine in zip(optimizer["param_groups"], _groups(schedule.optimizer), strict=True):
        group.update(mine)
    return True


def _groups(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The settings of an optimizer's groups of weights."""
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


def _changes(former: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Name the settings that differ, with both values. One that is not there has no value."""
    for name in {**new, **former}:
        values = former.get(name), new.get(name)
        before, now = (list(value) if isinstance(value, tuple) else value for value in values)
        if before != now and name not in FACTS:
            before, now = ("null" if value is None else _shortened(str(value)) for value in values)
            yield f"{prefix}{name} {before} -> {now}"


def _shortened(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."


def _put_into_effect(optimizer: Optimizer, former: list[dict[str, Any]], new: list[dict[str, Any]]) -> Iterator[str]:
    """Give the optimizer the settings that have changed. Yield them.

    A schedule sets the learning rate, and some schedules set more than that. So what has not changed stays as restored.
    """
    for group, before, now in zip(optimizer.param_groups, former, new, strict=True):
        changed = {name: value for name, value in now.items() if name not in before or before[name] != value}
        if "initial_lr" in now:  # a schedule multiplies it
            changed.pop("lr", None)
            if "initial_lr" in changed and group.get("initial_lr"):
                group["lr"] *= now["initial_lr"] / group["initial_lr"]
        yield from _changes({name: before.get(name) for name in changed}, changed, "optimizer.")
        group.update(changed)
        if changed.keys() & {"fused", "capturable"}:
            # These need the counts of steps on other devices, where loading puts them.
            optimizer.load_state_dict(optimizer.state_dict())


def _continue_schedule(schedule: LRScheduler, former: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Give a schedule the settings that have changed, and the optimizer the rate of the next step. Yield them."""
    groups = schedule.optimizer.param_groups
    if hasattr(schedule, "base_lrs"):
        schedule.base_lrs = [group["initial_lr"] for group in groups]
    own = {name for name in new if not name.startswith("_") and name not in ("base_lrs", "last_epoch")}
    changed = {name: new[name] for name in own if name in former and former[name] != new[name]}
    yield from _changes({name: former[name] for name in changed}, changed, "schedule.")
    for name, value in changed.items():
        setattr(schedule, name, value)
    if isinstance(schedule, LambdaLR):
        # Its functions are not in its state, so they are this start's.
        for group, rate, base in zip(groups, schedule.lr_lambdas, schedule.base_lrs, strict=True):
            group["lr"] = base * rate(schedule.last_epoch)
