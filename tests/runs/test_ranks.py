"""What ranks decide together; `test_start.py` shows it between two processes."""

from typing import NoReturn

import pytest

from lit_transformer.errors import UserError
from lit_transformer.runs import ranks


def as_rank_zero_beside(monkeypatch: pytest.MonkeyPatch, other: object) -> None:
    """Give what this process gathers the answer of a second one."""
    monkeypatch.setattr(ranks, "gather", lambda mine: [mine, other])


def test_one_process_alone() -> None:
    ranks.check_ranks({"rank": 0, "data": "a"})
    assert ranks.on_all_ranks(lambda: 3) == 3
    assert ranks.on_rank_zero(lambda: 5, is_rank_zero=True) == 5


def test_two_processes_of_one_rank_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank_zero_beside(monkeypatch, {"rank": 0, "data": "a"})
    with pytest.raises(UserError, match=r"process 1 reports rank 0: ranks must be unique"):
        ranks.check_ranks({"rank": 0, "data": "a"})


def test_a_fact_that_only_one_rank_has_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank_zero_beside(monkeypatch, {"rank": 1, "data.tokenizer": "x.model"})
    with pytest.raises(UserError, match=r"rank 1 has data\.tokenizer x\.model, rank 0 has None"):
        ranks.check_ranks({"rank": 0})


def test_the_mistake_of_one_rank_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank_zero_beside(monkeypatch, UserError("rank 1 is out of luck"))
    with pytest.raises(UserError, match="rank 1 is out of luck"):
        ranks.on_all_ranks(lambda: 3)

    def fail() -> NoReturn:
        raise UserError("so is rank 0")

    with pytest.raises(UserError, match="so is rank 0"):
        ranks.on_all_ranks(fail)
