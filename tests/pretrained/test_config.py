"""Settings of others are of the right type and size, or one line names them."""

import json
from pathlib import Path

import pytest

from tests.helpers.foreign import MAKE, change_config, refused, save

SIZES = {
    "gpt2": ["n_embd", "n_layer", "n_head", "n_positions", "n_inner", "vocab_size"],
    "bert": ["hidden_size", "num_hidden_layers", "max_position_embeddings", "type_vocab_size", "pad_token_id"],
    "bart": ["d_model", "encoder_layers", "decoder_attention_heads", "max_position_embeddings"],
    "t5": ["d_kv", "d_ff", "relative_attention_num_buckets"],
    "vit": ["image_size", "patch_size", "num_channels", "intermediate_size"],
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("others")
    for name in SIZES:
        save(MAKE[name](), root / name)
    return root


@pytest.mark.parametrize("value", [10**30, -1, 1.5, "7", True, [7]])
@pytest.mark.parametrize(("name", "setting"), [(name, setting) for name in SIZES for setting in SIZES[name]])
def test_sizes(folders: Path, name: str, setting: str, value: object) -> None:
    file = folders / name / "config.json"
    before = file.read_text()
    if setting == "pad_token_id" and value == 10**30:
        return  # no token has this id, so none is padding
    try:
        change_config(folders / name, **{setting: value})
        refused(folders / name)
    finally:
        file.write_text(before)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", "-1", "0"])
def test_numbers_that_are_no_epsilon(folders: Path, value: str) -> None:
    file = folders / "bert" / "config.json"
    before = file.read_text()
    try:
        changed = json.dumps(json.loads(before) | {"layer_norm_eps": "HERE"}).replace('"HERE"', value)
        file.write_text(changed)
        refused(folders / "bert")
    finally:
        file.write_text(before)
