"""Training steps in a plain loop: ours with any settings, and the peers that train.

Legend: B batch, S source length, T target length.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor, nn

from lit_transformer.batch import PAD_ID, Batch, IntArray, make_batch
from lit_transformer.benchmarks.sizes import Size
from lit_transformer.benchmarks.torch_work import TorchWork, count_synchronizations, set_up_torch
from lit_transformer.data.packing import RowShape, pack
from lit_transformer.errors import UserError
from lit_transformer.model.transformer import Transformer
from lit_transformer.runs.private_names import num_compiled_graphs
from lit_transformer.training.optimizer import make_optimizer
from lit_transformer.training.translation import LitTransformer

EPSILON, LEARNING_RATE = 0.1, 1e-4
COMPILE = "compile"
"""The setting of ours that compiles in the first steps."""
COMPILED_SHAPES = 3
PACKING = "packing"
"""The setting of ours that changes the batches and not the model."""
AUTOCAST = {"32-true": None, "bf16-mixed": torch.bfloat16}
"""The precisions of a plain loop."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """What a contestant trains.

    Args:
        settings: Settings of ours that are on, such as `compile`.
        size: The model.
        batches: Padded sources and targets of each batch.
        device: Where to compute.
        precision: A key of `AUTOCAST`.
        threads: Threads of a CPU.
        is_plain: Whether the settings of `machine.py` are left out.
    """

    settings: tuple[str, ...] = ()
    size: Size
    batches: Sequence[tuple[IntArray, IntArray]]
    device: str
    precision: str
    threads: int
    is_plain: bool = False

    def describe(self) -> dict[str, Any]:
        """What all contestants train, as plain data."""
        sides = [side for sides in self.batches for side in sides]
        return {
            "config": asdict(self.size.config),
            "vocab_size": self.size.vocab_size,
            "precision": self.precision,
            "batches": len(self.batches),
            "padding": 1.0 - sum(np.count_nonzero(side != PAD_ID) for side in sides) / sum(side.size for side in sides),
        }


class TrainingLoop(TorchWork):
    """Optimizer steps with a loss.

    Args:
        job: What is trained.
        model: Its parameters are optimized.
        loss: From a batch to the sum of its label-smoothed losses.
    """

    def __init__(self, job: TrainingJob, model: nn.Module, loss: Callable[[Batch], Tensor]) -> None:
        super().__init__(job.device, job.threads)
        self._autocast = AUTOCAST[job.precision]
        self._loss = loss
        model.to(self.device)
        self._batches: list[Batch] = [move_data_to_device(batch, self.device) for batch in batches_of(job)]
        self._optimizer = make_optimizer(None, model, peak=LEARNING_RATE, clips=False)
        for group in self._optimizer.param_groups:
            group["lr"] = LEARNING_RATE
        model.eval()
        # Without gradients, PyTorch's layers take another path on a CPU. On a GPU, all contestants do this at a time.
        with torch.set_grad_enabled(self.device.type == "cpu"):
            self._first_loss = self._loss_of(self._batches[0]).item() / self._batches[0].num_target_tokens
        model.train()
        self._compiles = COMPILE in job.settings
        if self._compiles:  # for one shape, and then for all
            self.run(range(min(COMPILED_SHAPES, len(self._batches))))
            self._graphs = num_compiled_graphs()
        self.rest()

    def run(self, batches: Sequence[int]) -> int:
        for number in batches:
            self._step(number)
        self.synchronize()
        return sum(self._batches[number].num_target_tokens for number in batches)

    def wake(self, batch: int) -> None:
        """Take the memory of a GPU back that `rest` has freed."""
        if self.device.type == "cuda":
            self.run([batch])

    def facts(self) -> dict[str, Any]:
        facts = {"first_loss": self._first_loss, **self.gpu_facts()}
        if self._compiles:
            facts["graphs"] = [self._graphs, num_compiled_graphs() - self._graphs]
        if self.device.type == "cuda":
            facts["synchronizations"] = count_synchronizations(self._step)
        return facts

    def _step(self, number: int) -> None:
        batch = self._batches[number % len(self._batches)]
        self._optimizer.zero_grad()
        (self._loss_of(batch) / batch.num_target_tokens).backward()
        self._optimizer.step()

    def _loss_of(self, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, self._autocast, enabled=self._autocast is not None, cache_enabled=False):
            return self._loss(batch)


def prepare_training(job: TrainingJob) -> TrainingLoop:
    """Build ours, and compile it if `job.settings` has `compile`.

    Raises:
        UserError: There is no such setting.
    """
    set_up_torch(job.device, threads=job.threads, is_plain=job.is_plain)
    known = inspect.signature(LitTransformer).parameters
    for name in job.settings:
        if name not in known and name != PACKING:
            raise UserError(f"training has no setting {name!r}")
    arguments: Any = {name: True for name in job.settings if name in known}
    module = LitTransformer(job.size.config, vocab_size=job.size.vocab_size, bleu_tokenize="13a", **arguments)
    return TrainingLoop(job, module, lambda batch: module.loss_sums(batch).smoothed)


def prepare_peer(job: TrainingJob, make: Callable[[Transformer], nn.Module]) -> TrainingLoop:
    """Build a peer, which has the weights of ours and returns logits."""
    set_up_torch(job.device, threads=job.threads, is_plain=job.is_plain)
    ours = Transformer(job.size.config, vocab_size=job.size.vocab_size, pad_id=PAD_ID)
    model = make(ours)
    return TrainingLoop(job, model, lambda batch: plain_loss(model(batch.source_BS, batch.target_input_BT), batch))


def plain_loss(logits: Tensor, batch: Batch) -> Tensor:
    """The sum of the losses, by PyTorch's own function."""
    return F.cross_entropy(
        logits.flatten(0, 1).float(),
        batch.target_output_BT.flatten(),
        ignore_index=PAD_ID,
        label_smoothing=EPSILON,
        reduction="sum",
    )


def batches_of(job: TrainingJob) -> list[Batch]:
    """The batches of a job, packed if its settings have `packing`."""
    batches = [make_batch(*sides) for sides in job.batches]
    if PACKING not in job.settings:
        return batches
    most_source = max(batch.num_source_tokens for batch in batches)
    most_target = max(batch.num_target_tokens for batch in batches)
    longest = max(side.shape[1] for sides in job.batches for side in sides)
    shape = RowShape.holding(most_source, most_target, longest)
    return [pack(batch, shape) for batch in batches]
