"""Trained models from any place, whoever wrote them."""

import json
from pathlib import Path

import pytest

from lit_transformer.checkpoints.trained_model import TrainedModel
from lit_transformer.errors import UserError
from lit_transformer.pretrained.places import READERS, load_pretrained, load_translation_model


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
