import dataclasses
import math
from typing import Any

import pytest

from lit_transformer.errors import UserError
from lit_transformer.search_settings import SamplingSettings, SearchSettings


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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.5}, r"^temperature is -0\.5: .* 0 "),
        ({"temperature": math.inf}, r"^temperature is inf: .* finite$"),
        ({"temperature": math.nan}, r"^temperature is nan: "),
        ({"top_k": 0}, r"^top_k is 0: .* 1$"),
        ({"top_p": 0.0}, r"^top_p is 0\.0: .* 0 .* 1$"),
        ({"top_p": 1.1}, r"^top_p is 1\.1: "),
        ({"seed": -1}, r"^seed is -1: .* 4294967295$"),
        ({"seed": 2**32}, r"^seed is 4294967296: "),
    ],
)
def test_impossible_sampling_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SamplingSettings(**values)


def test_samples_need_no_beam() -> None:
    settings = SearchSettings(sampling=SamplingSettings(), n_best=17)
    assert (settings.num_returned, settings.num_rows) == (17, 17)
    assert SearchSettings(sampling=SamplingSettings()).num_rows == 1
    with pytest.raises(UserError, match=r"^n_best is 10001: .* 10000$"):
        SearchSettings(sampling=SamplingSettings(), n_best=10_001)


def test_the_defaults_are_the_papers_and_values_that_do_not_change() -> None:
    settings = SearchSettings()
    assert (settings.beam_size, settings.length_penalty, settings.max_extra_length) == (4, 0.6, 50)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.beam_size = 1  # type: ignore[misc]
    assert settings == SearchSettings(beam_size=4) != SearchSettings(beam_size=1)
