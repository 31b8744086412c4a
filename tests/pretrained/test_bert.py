"""A BERT that `transformers` saved has the same logits here."""

from pathlib import Path

import pytest
import torch

from tests.helpers.foreign import (
    assert_equal,
    bert,
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
@pytest.mark.parametrize("settings", [{}, {"hidden_act": "relu", "layer_norm_eps": 0.3, "tie_word_embeddings": False}])
def test_logits_are_equal(tmp_path: Path, dtype: torch.dtype, settings: dict[str, object]) -> None:
    """Also under padding and with segments."""
    oracle = save(bert(**settings), tmp_path, dtype)
    token_BL, segment_BL = random_tokens(), torch.randint(3, (3, 13))
    token_BL[0, 5:] = oracle.config.pad_token_id
    exists_BL = token_BL != oracle.config.pad_token_id
    theirs = oracle(token_BL, attention_mask=exists_BL, token_type_ids=segment_BL).logits
    assert_equal(load(tmp_path)(token_BL, segment_BL)[exists_BL], theirs[exists_BL])


def test_old_and_surplus_names(tmp_path: Path) -> None:
    """The published file has the names of TensorFlow for its norms, a head for pairs of sentences, and copies."""
    oracle = save(bert(), tmp_path)
    expected = load(tmp_path)

    def as_published(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        old = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in weights.items()
        }
        return old | {
            "bert.pooler.dense.weight": torch.ones(35, 35),
            "cls.seq_relationship.weight": torch.ones(2, 35),
            "bert.embeddings.position_ids": torch.arange(17)[None],
            "cls.predictions.decoder.weight": oracle.bert.embeddings.word_embeddings.weight.detach().clone(),
            "cls.predictions.decoder.bias": oracle.cls.predictions.bias.detach().clone(),
        }

    change_weights(tmp_path, as_published)
    assert same_weights(load(tmp_path), expected)
    change_weights(tmp_path, lambda weights: {name.removeprefix("bert."): tensor for name, tensor in weights.items()})
    assert same_weights(load(tmp_path), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("is_decoder", True),
        ("add_cross_attention", True),
        ("position_embedding_type", "relative_key"),
        ("hidden_act", "mish"),
        ("type_vocab_size", 2),
    ],
)
def test_other_settings_are_named(tmp_path: Path, name: str, value: object) -> None:
    save(bert(), tmp_path)
    change_config(tmp_path, **{name: value})
    refused(tmp_path)


def test_every_setting_is_read_or_known_to_change_nothing(tmp_path: Path) -> None:
    save(bert(), tmp_path)
    about_training = {"attention_probs_dropout_prob", "initializer_range", "classifier_dropout"}
    about_the_file = {"architectures", "dtype", "transformers_version", "use_cache", "model_type"}
    assert unread_settings(tmp_path, "bert") <= about_training | about_the_file
