"""What the ranks of a run decide together, so that an error on one of them ends all of them and none waits forever."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import distributed

from lit_transformer.errors import UserError

T = TypeVar("T")


def gather(mine: T) -> list[T]:
    """The values of all ranks in the order of ranks; just this one's before there is a process group."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [mine]
    everybody: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(everybody, mine)
    return everybody


def on_all_ranks(action: Callable[[], T]) -> T:
    """Call `action` on every rank.

    Raises:
        UserError: `action` has raised one on any rank. All ranks raise that of the first such rank.
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
    """Call `action` on rank 0 alone; what it returns or raises is returned or raised on every rank."""
    return gather(on_all_ranks(lambda: action() if is_rank_zero else None))[0]  # type: ignore[return-value]


def check_ranks(mine: Mapping[str, Any]) -> None:
    """Compare what the ranks of a run must agree on; `rank` is the number that a rank goes by.

    Raises:
        UserError: A rank differs from rank 0, or two ranks go by one number. All ranks raise the same.
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
