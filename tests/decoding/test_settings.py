import dataclasses
import math
from typing import Any

import pytest

from lit_transformer.errors import UserError
from lit_transformer.search_settings import SearchSettings


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beam_size": 0}, r"^beam_size is 0: .* 1$"),
        ({"beam_size": 10**20}, r"^beam_size is 10{20}: .* 10000$"),
        ({"n_best": 0}, r"^n_best is 0: "),
        ({"n_best": 5}, r"^n_best is 5: .* beam_size, 4$"),
        ({"beam_size": 1, "n_best": 2}, r"^n_best is 2: .* beam_size, 1$"),
        ({"length_penalty": -0.1}, r"^length_penalty is -0\.1: "),
        ({"length_penalty": math.nan}, r"^length_penalty is nan: "),
        ({"length_penalty": math.inf}, r"^length_penalty is inf: .* 10$"),
        ({"max_extra_length": -1}, r"^max_extra_length is -1: .* 0 to "),
        ({"max_extra_length": 10**9}, r"^max_extra_length is 10{9}: .* 10000$"),
        ({"min_length": -1}, r"^min_length is -1: .* 0 .* 51$"),
        ({"min_length": 52}, r"^min_length is 52: .* max_extra_length \+ 1, 51$"),
        ({"min_length": 9, "max_extra_length": 7}, r"^min_length is 9: .* 8$"),
    ],
)
def test_impossible_settings_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SearchSettings(**values)


def test_the_defaults_are_the_papers_and_values_that_do_not_change() -> None:
    settings = SearchSettings()
    assert (settings.beam_size, settings.length_penalty, settings.max_extra_length) == (4, 0.6, 50)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.beam_size = 1  # type: ignore[misc]
    assert settings == SearchSettings(beam_size=4) != SearchSettings(beam_size=1)
