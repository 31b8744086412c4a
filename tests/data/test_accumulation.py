"""Counts of micro-batches, where another number of them makes a step."""

from typing import Any

from lit_transformer.data.accumulation import recount


def test_a_checkpoint_counts_the_micro_batches_of_the_resumed_run() -> None:
    """After 7 steps of 3 micro-batches, 4 of them before the current epoch of Lightning."""
    names = ("ready", "started", "processed", "completed")
    progress = {"total": dict.fromkeys(names, 21), "current": dict.fromkeys(names, 17)}
    checkpoint: dict[str, Any] = {
        "global_step": 7,
        "loops": {"fit_loop": {"epoch_loop.batch_progress": progress}},
    }
    recount(checkpoint, 5)
    assert progress == {"total": dict.fromkeys(names, 35), "current": dict.fromkeys(names, 31)}
    recount(checkpoint, 3)
    assert progress == {"total": dict.fromkeys(names, 21), "current": dict.fromkeys(names, 17)}
