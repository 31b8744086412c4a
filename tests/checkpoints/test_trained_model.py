"""A model's own search settings in its files."""

from typing import Any

import pytest

from lit_transformer.checkpoints.trained_model import search_entry, search_in
from lit_transformer.errors import UserError
from lit_transformer.search_settings import SamplingSettings, SearchSettings


@pytest.mark.parametrize(
    "search", [SearchSettings(), SearchSettings(beam_size=6, max_length=511, stopping="full", unknown=True)]
)
def test_they_are_read_back(search: SearchSettings) -> None:
    assert search_in(search_entry(search), "x") == search


def test_sampling_is_not_kept() -> None:
    """A model samples only if it is told to."""
    own = SearchSettings(beam_size=6, sampling=SamplingSettings(top_k=3))
    assert search_in(search_entry(own), "x") == SearchSettings(beam_size=6)


def test_the_paper_s_leave_no_trace() -> None:
    """Files of such models are those of earlier versions."""
    assert search_entry(SearchSettings()) == {}


@pytest.mark.parametrize(
    "entry",
    [
        [],
        "x",
        {"beam_size": 4.5},
        {"beam_size": 0},
        {"unknown": 1},
        {"max_length": 9.5},
        {"other": 1},
        {"stopping": "x"},
        {"sampling": {}},
    ],
)
def test_damaged_ones_are_refused(entry: Any) -> None:
    with pytest.raises(UserError, match=r"^config\.json: search") as found:
        search_in({"search": entry}, "config.json")
    assert "\n" not in str(found.value)
