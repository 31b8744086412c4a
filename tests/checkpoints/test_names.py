"""Names of checkpoints."""

from pathlib import Path

from lit_transformer.checkpoints.names import (
    all_checkpoints,
    best_path,
    interrupted_path,
    regular_checkpoints,
    step_of,
    step_path,
)


def test_regular_checkpoints_are_in_the_order_of_steps_not_of_names_or_times(tmp_path: Path) -> None:
    steps = (100_000_000, 99, 99_999_999, 5)
    for path in (*(step_path(tmp_path, step) for step in steps), best_path(tmp_path, 99), tmp_path / "average-5"):
        path.touch()
    assert [step_of(path) for path in regular_checkpoints(tmp_path)] == sorted(steps)


def test_checkpoints_of_interruptions_are_no_regular_ones(tmp_path: Path) -> None:
    regular, interrupted = step_path(tmp_path, 10), interrupted_path(tmp_path, 15)
    for path in (regular, interrupted):
        path.touch()
    assert regular_checkpoints(tmp_path) == [regular]
    assert all_checkpoints(tmp_path) == [regular, interrupted]
    assert step_of(interrupted) == 15
