"""What may stand in a checkpoint, and how what may not is named."""

import collections
import datetime
import enum
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from lit_transformer.checkpoints.plain_data import check_plain
from lit_transformer.errors import UserError


class Color(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: int


@dataclass
class Record:
    x: int


UNREADABLE = {
    "numpy.float64": np.float64(1.5),
    "numpy.float32": np.float32(1.5),
    "numpy.ndarray": np.ones(3),
    "datetime.date": datetime.date(2026, 1, 1),
    "datetime.timedelta": datetime.timedelta(1),
    f"{__name__}.Color": Color.RED,
    f"{__name__}.Point": Point(1),
    f"{__name__}.Record": Record(1),
    "collections.defaultdict": collections.defaultdict(list),
    "frozenset": frozenset([1]),
    "range": range(3),
    "function": lambda: 1,
    f"pathlib.{type(Path()).__name__}": Path(),
}


@pytest.mark.parametrize("kind", UNREADABLE)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [0, {"a": (value,)}]], ids=["bare", "nested"])
def test_what_cannot_be_read_back_is_named(kind: str, wrap: Any) -> None:
    content = {
        "state_dict": {"w": torch.ones(2)},
        "callbacks": {"Good": {"n": 1}, "Mine": {"best": wrap(UNREADABLE[kind])}},
    }
    with pytest.raises(UserError, match=rf"callback Mine .*{kind}.*\(best") as error:
        check_plain(content)
    assert "\n" not in str(error.value)


def test_keys_and_other_entries_are_named() -> None:
    with pytest.raises(UserError, match=r"entry hyper_parameters .*datetime\.date"):
        check_plain({"hyper_parameters": {"when": datetime.date(2026, 1, 1)}})
    with pytest.raises(UserError, match=r"entry mine .*numpy\.int64"):
        check_plain({"mine": {np.int64(3): 1}})


def test_what_can_be_read_back_passes() -> None:
    content = {
        "plain": [None, True, 1, 1.5, "a", b"a", (1, 2), {"a": {}}],
        "tensors": [torch.ones(2), torch.nn.Parameter(torch.ones(2)), torch.Size([1]), torch.float32],
        "others": [{1, 2}, 1j, collections.OrderedDict(a=1), collections.Counter("ab"), bytearray(b"a")],
    }
    check_plain(content)
    file = io.BytesIO()
    torch.save(content, file)
    file.seek(0)
    assert torch.load(file, weights_only=True).keys() == content.keys()
