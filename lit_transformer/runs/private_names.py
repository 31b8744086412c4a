"""The private names of Lightning and torch that the project needs, each with the reason. No other module uses one.

The bounds in pyproject.toml keep out versions that were not tried. A test fails if an installed version lacks a name.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams


def launches_commands(trainer: L.Trainer) -> bool:
    """Return whether the trainer starts other ranks as commands of their own, or starts none.

    Strategies have no public property for it. The other launchers copy this process, which runs do not support.
    """
    return isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher | None)


def cluster_of(trainer: L.Trainer) -> ClusterEnvironment:
    """Return the cluster that the trainer has found. Strategies for one device have no public property for it."""
    environment: ClusterEnvironment = trainer._accelerator_connector.cluster_environment
    return environment


def stop_asking_for_sigterm(trainer: L.Trainer) -> None:
    """Remove Lightning's question to all ranks about SIGTERM, which waits for the device at each micro-batch.

    No option switches it off. `Interruption` asks the ranks without waiting.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


class SavingCheckpoint(ModelCheckpoint):
    """Lightning's `ModelCheckpoint`, which has no public method for what follows."""

    def on_saved(self, trainer: L.Trainer, path: Path) -> None:
        """Called on all ranks after each save, before a former checkpoint is removed."""

    def save_now(self, trainer: L.Trainer) -> None:
        """Save this step as if an interval had ended. Does nothing if the step was saved."""
        if not self._should_skip_saving_checkpoint(trainer):
            candidates = self._monitor_candidates(trainer)
            self._save_topk_checkpoint(trainer, candidates)
            self._save_last_checkpoint(trainer, candidates)

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self.on_saved(trainer, Path(filepath))

    def _should_remove_checkpoint(self, trainer: L.Trainer, previous: str, current: str) -> bool:
        # Lightning never removes the checkpoint that a run was resumed from. Here it is one of the run's own.
        return previous != current


def draw_settings(writer: SummaryWriter, settings: Mapping[str, Any], curves: Mapping[str, float]) -> None:
    """Write a run's settings into TensorBoard's table, and name the curves that compare runs.

    The public `add_hparams` would start a run of its own and draw a point of each curve.
    """
    for summary in hparams(dict(settings), dict(curves)):
        writer._get_file_writer().add_summary(summary)


def cpu_multiplies_bfloat16() -> bool:
    """Return whether the processor and oneDNN have instructions and kernels for bfloat16.

    Without oneDNN's kernels bfloat16 takes 20 times as long as float32. torch has no public function for either.
    """
    multiplies = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return multiplies and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def num_compiled_graphs() -> int:
    """Return how many graphs PyTorch has compiled in this process. Its compiler has no public count."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
