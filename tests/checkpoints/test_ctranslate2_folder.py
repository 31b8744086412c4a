"""Models are converted once and as a whole, or refused with a reason."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from lit_transformer.batch import PAD_ID
from lit_transformer.checkpoints import ctranslate2_folder
from lit_transformer.checkpoints.ctranslate2_folder import cached_folder, is_usable, write_ctranslate2_folder
from lit_transformer.checkpoints.folder import SOURCE_VOCABULARY_FILE, VOCABULARY_FILE
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer

pytest.importorskip("ctranslate2", reason="the package ctranslate2 is not installed")


def make(**config: object) -> Transformer:
    sizes = {"d_model": 12, "d_ff": 14, "num_heads": 2, "num_layers": 1} | config
    return Transformer(TransformerConfig(**sizes), vocab_size=19, pad_id=PAD_ID)  # type: ignore[arg-type]


def test_a_model_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    folder = cached_folder(model, tmp_path)
    monkeypatch.setattr(ctranslate2_folder, "new_folder", lambda _: pytest.fail("converted again"))
    assert cached_folder(model, tmp_path) == folder
    with torch.no_grad():
        model.embedding.weight[5, 5] += 1
    with pytest.raises(pytest.fail.Exception, match="again"):
        cached_folder(model, tmp_path)


def test_processes_may_convert_it_at_the_same_time(tmp_path: Path) -> None:
    model = make()
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: cached_folder(model, tmp_path), range(4)))
    assert len({*folders}) == 1
    assert [*folders[0].parent.iterdir()] == [folders[0]]


def test_each_side_may_have_its_own_vocabulary(tmp_path: Path) -> None:
    vocabularies = Vocabularies(
        *(
            Tokenizer.train([text] * 9, vocab_size=size, character_coverage=1.0)
            for text, size in (("a cat", 10), ("eine Katze", 14))
        )
    )
    sizes = (vocabularies.target.vocab_size, vocabularies.source_vocab_size)
    config = TransformerConfig(d_model=12, d_ff=14, num_heads=2, num_layers=1)
    model = Transformer(config, vocab_size=sizes[0], pad_id=PAD_ID, source_vocab_size=sizes[1])
    write_ctranslate2_folder(tmp_path, model, vocabularies, compute_type="int8")
    for side, name in (("source", SOURCE_VOCABULARY_FILE), ("target", VOCABULARY_FILE)):
        tokenizer = getattr(vocabularies, side)
        assert (tmp_path / name).read_bytes() == tokenizer.model_bytes
        assert json.loads((tmp_path / f"{side}_vocabulary.json").read_text()) == tokenizer.pieces()


@pytest.mark.parametrize(("config", "named"), [({"positions": "alibi"}, "positions"), ({"d_v": 5}, "d_v")])
def test_what_it_cannot_express_is_refused(config: dict[str, object], named: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=named) as error:
        cached_folder(make(**config), tmp_path)
    assert "\n" not in str(error.value)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_missing_package_is_named_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctranslate2_folder, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install"):
        cached_folder(make(), tmp_path)


def test_it_is_usable_if_the_package_is_there_and_has_the_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_usable(TransformerConfig())
    assert not is_usable(TransformerConfig(positions="alibi"))
    monkeypatch.setattr(ctranslate2_folder, "find_spec", lambda _: None)
    assert not is_usable(TransformerConfig())
