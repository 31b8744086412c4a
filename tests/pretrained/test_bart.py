"""A BART that `transformers` saved has the same logits here."""

from pathlib import Path

import pytest
import torch
from transformers import BartModel

from tests.helpers.foreign import (
    assert_equal,
    bart,
    change_config,
    change_weights,
    every_dtype,
    load,
    random_tokens,
    refused,
    same_weights,
    save,
    unread_settings,
)


@every_dtype
@pytest.mark.parametrize("settings", [{}, {"activation_function": "silu", "scale_embedding": True}])
def test_logits_are_equal(tmp_path: Path, dtype: torch.dtype, settings: dict[str, object]) -> None:
    """Also under padding, and up to the last position."""
    oracle = save(bart(**settings), tmp_path, dtype)
    source_BS, target_BT = random_tokens(), random_tokens(3, 17)
    source_BS[0, 5:] = oracle.config.pad_token_id
    theirs = oracle(source_BS, attention_mask=source_BS != oracle.config.pad_token_id, decoder_input_ids=target_BT)
    assert_equal(load(tmp_path)(source_BS, target_BT), theirs.logits)


def test_names_with_and_without_a_prefix(tmp_path: Path) -> None:
    """`BartModel` has no bias on its logits, so it is zero. Other files store the embedding several times."""
    oracle = save(bart(), tmp_path / "head")
    bare = BartModel(oracle.config)
    bare.load_state_dict(oracle.model.state_dict())
    bare.save_pretrained(tmp_path / "bare")
    copies = {
        name: oracle.model.shared.weight.detach().clone()
        for name in ("lm_head.weight", "model.encoder.embed_tokens.weight")
    }
    change_weights(tmp_path / "head", lambda weights: weights | copies | {"final_logits_bias": torch.zeros(1, 31)})
    head, model = load(tmp_path / "head"), load(tmp_path / "bare")
    assert same_weights(head.encoder, model.encoder)
    assert same_weights(head.decoder, model.decoder)
    source_BS, target_BT = random_tokens(), random_tokens()
    assert torch.equal(head(source_BS, target_BT), model(source_BS, target_BT))


def test_a_copy_that_differs_is_an_error(tmp_path: Path) -> None:
    save(bart(), tmp_path)
    change_weights(tmp_path, lambda weights: weights | {"lm_head.weight": weights["model.shared.weight"] + 1})
    assert "lm_head.weight" in refused(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decoder_layers", 3),
        ("decoder_ffn_dim", 29),
        ("encoder_attention_heads", 7),
        ("is_encoder_decoder", False),
        ("tie_word_embeddings", False),
        ("max_position_embeddings", 18),
        ("activation_function", 3),
    ],
)
def test_other_settings_are_named(tmp_path: Path, name: str, value: object) -> None:
    save(bart(), tmp_path)
    change_config(tmp_path, **{name: value})
    refused(tmp_path)


def test_every_setting_is_read_or_known_to_change_nothing(tmp_path: Path) -> None:
    save(bart(), tmp_path)
    about_training = {"activation_dropout", "attention_dropout", "classifier_dropout", "init_std"}
    about_training |= {"encoder_layerdrop", "decoder_layerdrop"}
    about_other_heads = {"id2label", "label2id"}
    about_the_file = {"architectures", "dtype", "transformers_version", "use_cache", "model_type"}
    about_search = {"forced_eos_token_id", "decoder_start_token_id"}
    assert unread_settings(tmp_path, "bart") <= about_training | about_other_heads | about_the_file | about_search
