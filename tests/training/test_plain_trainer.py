"""Module and datamodule with a plain `L.Trainer`, as people use them who know Lightning."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest

from lit_transformer import LitTransformer, TransformerConfig, TranslationData
from lit_transformer.data.following import Followed
from lit_transformer.errors import UserError
from tests.helpers.tiny import write_tiny_corpus

VOCAB_SIZE = 40
CONFIG = TransformerConfig(d_model=16, d_ff=16, num_heads=2, num_layers=1, positions="learned", max_positions=30)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "corpus"
    write_tiny_corpus(folder)
    return folder


def tiny_data(corpus: Path, **settings: Any) -> TranslationData:
    defaults: dict[str, Any] = {
        "character_coverage": 1.0,
        "tokens_per_batch": 100,
        "cache_dir": str(corpus.parent / "cache"),
    }
    return TranslationData(str(corpus), **(defaults | settings))


def tiny_trainer(folder: Path, **settings: Any) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )


def test_the_data_follow_the_model(corpus: Path, tmp_path: Path) -> None:
    """Each trainer's, unless a value is given."""
    data = tiny_data(corpus)
    for vocab_size, source_vocab_size in ((VOCAB_SIZE, None), (37, 31)):
        model = LitTransformer(CONFIG, vocab_size, source_vocab_size, seed=5)
        tiny_trainer(tmp_path, max_steps=1).fit(model, data)
        assert data.followed == Followed(vocab_size, source_vocab_size, max_positions=30, seed=5)
        assert data.vocabularies.target.vocab_size == vocab_size
        assert data.vocabularies.source_vocab_size == source_vocab_size
    given = tiny_data(corpus, vocab_size=38, seed=7)
    with pytest.raises(UserError, match=r"\b38\b.*\b40\b"):
        tiny_trainer(tmp_path, max_steps=1).fit(LitTransformer(CONFIG, VOCAB_SIZE), given)
    assert given.followed.seed == 7


def test_without_a_trainer_the_vocabulary_is_the_papers() -> None:
    assert TranslationData("demo").followed.vocab_size == LitTransformer.__init__.__defaults__[1] == 37000  # type: ignore[index]
