"""Work for contestants in processes of their own. It loads no torch."""

import os
from collections.abc import Sequence
from typing import Any

from lit_transformer.errors import UserError


class CountingWork:
    """Computes for a moment per batch, and fails at batch 13."""

    threads = 1

    def __init__(self) -> None:
        self._batches = list[int]()

    def run(self, batches: Sequence[int]) -> int:
        if 13 in batches:
            os._exit(3)
        self._batches += batches
        for _ in batches:
            sum(range(100_000))
        return 10 * len(batches)

    def wake(self, batch: int) -> None:
        pass

    def rest(self) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return {"batches": self._batches}


def prepare(reason: str) -> CountingWork:
    """Raise UserError if there is a reason."""
    if reason:
        raise UserError(reason)
    return CountingWork()
