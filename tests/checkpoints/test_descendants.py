"""Trained descendants are read from checkpoints of runs, and each kind of model from its own."""

from pathlib import Path

import pytest
import torch

from lit_transformer.batch import PAD_ID
from lit_transformer.checkpoints.descendants import descendant_entry, load_descendant, special_ids
from lit_transformer.checkpoints.format import save_checkpoint
from lit_transformer.checkpoints.places import load_checkpoint
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer

CONFIG = TransformerConfig(d_model=12, d_ff=20, num_heads=2, num_layers=1)
TEXTS = ["the cat sees a dog", "a dog sees the cat"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXTS, vocab_size=23, character_coverage=1.0, symbols=["<mask>"])


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A checkpoint of a BART."""
    arguments = {"vocab_size": tokenizer.vocab_size, "pad_id": PAD_ID}
    model = Transformer(CONFIG, vocab_size=tokenizer.vocab_size, pad_id=PAD_ID)
    entry = descendant_entry("bart", CONFIG, arguments, tokenizer=tokenizer, step=7)
    weights = {f"transformer.{name}": value for name, value in model.state_dict().items()}
    path = tmp_path / "checkpoints" / "step-7.ckpt"
    save_checkpoint({"state_dict": weights, "lit_transformer": entry}, path)
    return path


def test_a_descendant_is_read_as_it_was_saved(saved: Path, tokenizer: Tokenizer) -> None:
    trained = load_descendant(saved.parents[1])
    assert (trained.name, trained.step, trained.path) == ("bart", 7, saved)
    assert not trained.model.training
    assert trained.tokenizer is not None
    assert trained.tokenizer.encode(TEXTS) == tokenizer.encode(TEXTS)
    weights = torch.load(saved, weights_only=True)["state_dict"]
    for name, value in trained.model.state_dict().items():
        assert torch.equal(value, weights[f"transformer.{name}"])


def test_the_mask_is_one_of_the_special_tokens_if_the_vocabulary_has_it(tokenizer: Tokenizer) -> None:
    special = special_ids(tokenizer)
    assert special.mask is not None
    assert tokenizer.tokens([special.mask]) == ["<mask>"]
    without = Tokenizer.train(TEXTS, vocab_size=22, character_coverage=1.0)
    assert special_ids(without).mask is None


def test_each_kind_of_model_is_read_by_its_own_function(saved: Path, tiny_run: Path) -> None:
    with pytest.raises(UserError, match="bart"):
        load_checkpoint(saved)
    with pytest.raises(UserError, match="load_checkpoint"):
        load_descendant(tiny_run)


@pytest.mark.parametrize(
    "change", [{"descendant": "mamba"}, {"arguments": {"vocab_size": 23}}, {"transformer": {"num_layers": 10**9}}]
)
def test_an_entry_that_is_no_model_is_refused(saved: Path, change: dict[str, object]) -> None:
    checkpoint = torch.load(saved, weights_only=True)
    checkpoint["lit_transformer"].update(change)
    save_checkpoint(checkpoint, saved)
    with pytest.raises(UserError, match=str(saved)):
        load_descendant(saved)
