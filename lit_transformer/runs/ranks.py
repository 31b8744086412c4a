"""Decisions of all ranks together. An error on one rank ends all of them, so that none waits forever."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import distributed

from lit_transformer.errors import UserError

T = TypeVar("T")


def gather(mine: T) -> list[T]:
    """Return the values of all ranks in their order. Without a process group it is this rank's alone."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [mine]
    everybody: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everybody, mine)
    return everybody


def on_all_ranks(action: Callable[[], T]) -> T:
    """Call `action` on every rank, and return this rank's result.

    Raises:
        UserError: `action` raised one on some rank. All ranks raise the error of the first such rank.
    """
    mistake: UserError | None = None
    try:
        result = action()
    except UserError as error:
        mistake = error
    for first in gather(mistake):
        if first is not None:
            raise first
    return result


def on_rank_zero(action: Callable[[], T], *, is_rank_zero: bool) -> T:
    """Call `action` on rank 0 alone, and return its result on every rank.

    Raises:
        UserError: `action` raised one. All ranks raise it.
    """
    return gather(on_all_ranks(lambda: action() if is_rank_zero else None))[0]  # type: ignore[return-value]


def check_ranks(mine: Mapping[str, Any]) -> None:
    """Compare the facts that the ranks of a run must agree on.

    Args:
        mine: This rank's facts by name. `rank` is its number.

    Raises:
        UserError: A rank differs from rank 0, or a rank's number is wrong. All ranks raise the same.
    """
    everybody = gather(dict(mine))
    for index, facts in enumerate(everybody):
        if facts["rank"] != index and len(everybody) > 1:
            raise UserError(
                f"process {index} reports rank {facts['rank']}: ranks must be unique; check the launcher's settings"
            )
        for name in sorted({*facts, *everybody[0]} - {"rank"}):
            value, expected = facts.get(name), everybody[0].get(name)
            if value != expected:
                raise UserError(f"rank {index} has {name} {value}, rank 0 has {expected}: give all ranks the same")
