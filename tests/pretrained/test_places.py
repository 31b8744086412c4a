"""Trained models from any place, whoever wrote them."""

import json
from pathlib import Path

import pytest

from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.errors import UserError
from lit_transformer.pretrained.places import READERS, load_pretrained, load_translation_model
from tests.helpers.foreign import change_config, gpt2, save


def test_our_own_runs_are_read(tiny_run: Path) -> None:
    for load in (load_pretrained, load_translation_model):
        trained = load(tiny_run)
        assert isinstance(trained, TrainedModel)
        assert trained.source == "en"


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"model_type": 7}', '{"model_type": "no such"}', "\0", None])
def test_other_folders_are_refused_in_one_line(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    for prefix in ("", "hf:"):
        with pytest.raises(UserError) as error:
            load_pretrained(f"{prefix}{tmp_path}")
        assert str(tmp_path) in str(error.value)
        assert "address" not in str(error.value)
        assert "\n" not in str(error.value)


def test_an_unknown_type_is_told_what_is_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no such"}))
    with pytest.raises(UserError, match=", ".join(["lit_transformer", *READERS])):
        load_pretrained(tmp_path)


def test_a_name_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The small file comes first, so that a model that cannot be read is not downloaded."""
    save(gpt2(), tmp_path)
    asked: list[list[str]] = []

    def snapshot_download(name: str, *, allow_patterns: list[str], **_: object) -> str:
        assert name == "somebody/some-gpt"
        asked.append(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    trained = load_pretrained("hf:somebody/some-gpt")
    # What is written beside it does not go into the cache.
    assert trained.path == Path("some-gpt")
    assert asked[0] == ["config.json"]
    assert {"model.safetensors", "tokenizer.json"} <= set(asked[1])
    assert not {"*", "pytorch_model.bin"} & set(asked[1])
    asked.clear()
    change_config(tmp_path, model_type="no such")
    with pytest.raises(UserError, match="no such"):
        load_pretrained("hf:somebody/some-gpt")
    assert asked == [["config.json"]]
