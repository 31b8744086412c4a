"""Contestants in processes of their own."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from lit_transformer.benchmarks.contest import Remote, compete, wait_until_ready
from lit_transformer.errors import UserError
from tests.helpers.counting_work import prepare


@pytest.fixture
def remotes() -> Iterator[dict[str, Remote]]:
    with ExitStack() as stack:
        started = {name: Remote(prepare, reason) for name, reason in (("a", ""), ("b", ""), ("c", "no such kernel"))}
        for remote in started.values():
            stack.callback(remote.end)
        yield started


def test_contestants_do_the_same_batches_in_turn(remotes: dict[str, Remote]) -> None:
    failures = list[tuple[str, str]]()
    ready = wait_until_ready(remotes, lambda *failure: failures.append(failure))
    assert list(ready) == ["a", "b"]
    assert failures == [("c", "no such kernel")]
    rounds = compete(ready, num_batches=4, seconds=0.05)
    facts = {name: remote.facts() for name, remote in ready.items()}
    assert facts["a"]["batches"] == facts["b"]["batches"]
    assert facts["a"]["batches"][:2] == [0, 3]
    assert set(facts["a"]["batches"]) == {0, 1, 2, 3}
    for found in rounds.kept:
        assert found["a"].tokens == found["b"].tokens > 0
        assert found["a"].wall > 0
    with pytest.raises(UserError, match="3"):
        ready["a"].measure([13])
    assert ready["b"].measure([1]).tokens == 10
