"""The Hub: one line if it cannot be reached, and a cached data set needs no network."""

from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict
from huggingface_hub import HfApi

from lit_transformer.data.hub import find_on_hub
from lit_transformer.data.text import Text
from lit_transformer.errors import UserError


def find(corpus: str, split: str = "train") -> Text:
    return find_on_hub(corpus, split=split, source="en", target="de")


def test_a_hub_that_cannot_be_reached_is_named_with_the_ways_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """`load_dataset`, which would retry for minutes, is not called."""

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(HfApi, "dataset_info", unreachable)
    monkeypatch.setattr(datasets, "load_dataset", lambda *arguments, **options: pytest.fail("called"))
    expected = r"wmt/wmt14\b.*{}.*`demo`.*SPLIT\.LANG.*hf download"
    with pytest.raises(UserError, match=expected.format("Name or service not known")) as error:
        find("wmt/wmt14:de-en")
    assert "\n" not in str(error.value)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=expected.format("offline")):
        find("wmt/wmt14:de-en")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.undo()
    with pytest.raises(UserError, match="no/such/thing"):
        find("no/such/thing")


def test_a_cached_data_set_needs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def from_cache(name: str, configuration: str | None) -> DatasetDict:
        calls.append((name, configuration))
        return DatasetDict(validation=Dataset.from_dict({"translation": [{"de": "Hallo", "en": "Hello"}]}))

    (tmp_path / "owner___some_set").mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", from_cache)
    assert find("owner/some_set:de-en", split="valid").load()["target"][:] == ["Hallo"]
    assert calls == [("owner/some_set", "de-en")]
    with pytest.raises(UserError, match=r"owner/some_set:de-en .*'test'.* validation$"):
        find("owner/some_set:de-en", split="test")
