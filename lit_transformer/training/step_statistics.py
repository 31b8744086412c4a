"""Statistics of optimizer steps: sums of losses, the gradient norm, and steps whose gradients are not finite.

They stay on the device, so that no step waits for it. They are not buffers of the module: FSDP casts buffers to
bfloat16, where a sum stops growing at 256 times what is added, and DDP overwrites every rank's buffers with the first
rank's. They are not saved.
"""

import torch
from torch import Tensor

from lit_transformer.training.loss import LossSums

MAX_SKIPPED_IN_A_ROW = 100
"""A float16 run lowers its loss scale by skipping steps, a few at a time. This many show that no scale works."""


class StepStatistics:
    """Statistics of one rank's steps.

    Args:
        device: Where the losses and gradients are.
    """

    def __init__(self, device: torch.device) -> None:
        self.loss_sums = torch.zeros(2, device=device)
        """Smoothed loss and negative log-likelihood since they were last read and set to zero."""
        self.gradient_norm = torch.zeros((), device=device)
        """Of the last step."""
        self.skipped_steps = torch.tensor(0, device=device)
        """Steps that float16 has skipped."""
        self.broken_step = torch.tensor(-1, device=device)
        """The step that broke the run, counted from 0; -1 if there is none."""
        self._bad_in_a_row = torch.tensor(0, device=device)

    def add_losses(self, sums: LossSums) -> None:
        """Adds a micro-batch's losses."""
        self.loss_sums = self.loss_sums + torch.stack([sums.smoothed.detach(), sums.nll])

    def add_gradients(self, norm: Tensor, *, step: int, skips: bool) -> None:
        """Adds a step's gradients. A loss that is not finite has gradients that are not finite, too.

        Args:
            norm: The norm over all ranks.
            step: Counted from 0.
            skips: Whether steps with infinite gradients are skipped, as float16's loss scale does.
        """
        self.gradient_norm = norm
        bad = ~norm.isfinite()
        self._bad_in_a_row = torch.where(bad, self._bad_in_a_row + 1, 0)
        if skips:
            self.skipped_steps += bad
        broken = (self.broken_step < 0) & (self._bad_in_a_row >= (MAX_SKIPPED_IN_A_ROW if skips else 1))
        self.broken_step = torch.where(broken, step, self.broken_step)
