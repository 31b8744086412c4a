"""The attention of a GPT, BERT, BART or T5 is what `transformers` computes for the same text."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID
from lit_transformer.checkpoints.descendants import TrainedDescendant, special_ids
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.attention import Weights
from lit_transformer.decoding.self_attention import record_text_attention
from lit_transformer.errors import UserError
from lit_transformer.model.bert import BERT
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.gpt import GPT
from lit_transformer.pretrained.places import load_pretrained
from tests.helpers.foreign import MAKE, save
from tests.helpers.tokenizers_of_others import byte_level, word_piece

TEXTS = ["The cat sleeps.", "Die Katze schläft, и кошка спит.", "cats"]
TARGETS = ["Die Katze", "x", "und cats, and dogs"]


def folder_with(name: str, tokenizer: Any, folder: Path, **settings: Any) -> Any:
    tokenizer.save_pretrained(folder)
    return save(MAKE[name](vocab_size=len(tokenizer), **settings), folder)


def read(folder: Path) -> TrainedDescendant:
    trained = load_pretrained(folder)
    assert isinstance(trained, TrainedDescendant)
    return trained


def check(maps: dict[int, Weights] | Any, theirs: Sequence[Tensor]) -> None:
    assert list(maps) == list(range(len(theirs)))
    for layer, weights in maps.items():
        np.testing.assert_allclose(weights, theirs[layer][0].detach().numpy(), atol=1e-5)


def test_gpt2(tmp_path: Path) -> None:
    tokenizer = byte_level()
    oracle = folder_with("gpt2", tokenizer, tmp_path, n_positions=60, bos_token_id=0, eos_token_id=0)
    for text, mine in zip(TEXTS, record_text_attention(read(tmp_path), TEXTS, batch_tokens=20), strict=True):
        ids = tokenizer(text)["input_ids"]
        check(mine.decoder, oracle(torch.tensor([ids]), output_attentions=True).attentions)
        assert (mine.source, mine.encoder, mine.cross) == ([], {}, {})
        assert len(mine.target_input) == len(ids)
        assert mine.target_output == [*mine.target_input, "<|endoftext|>"]


def test_bert(tmp_path: Path) -> None:
    tokenizer = word_piece()
    oracle = folder_with("bert", tokenizer, tmp_path, max_position_embeddings=60)
    for text, mine in zip(TEXTS, record_text_attention(read(tmp_path), TEXTS, layers=[0, 1]), strict=True):
        ids = tokenizer(text)["input_ids"]
        check(mine.encoder, oracle(torch.tensor([ids]), output_attentions=True).attentions)
        assert (mine.source[0], mine.source[-1], mine.decoder, mine.cross) == ("[CLS]", "[SEP]", {}, {})
    assert list(record_text_attention(read(tmp_path), ["cats"], layers=[1])[0].encoder) == [1]


@pytest.mark.parametrize("name", ["bart", "t5"])
def test_two_stacks(tmp_path: Path, name: str) -> None:
    """With the tokens that `transformers` puts around a text, and before what the decoder reads."""
    tokenizer = byte_level()
    special = {"pad_token_id": 3, "bos_token_id": 4, "eos_token_id": 5}
    sizes = {"max_position_embeddings": 60} if name == "bart" else {"decoder_start_token_id": 3}
    oracle = folder_with(name, tokenizer, tmp_path, **special, **sizes)
    recorded = record_text_attention(read(tmp_path), TEXTS, TARGETS)
    for text, target, mine in zip(TEXTS, TARGETS, recorded, strict=True):
        first = [4] if name == "bart" else []
        source_BS, target_BT = (torch.tensor([[*first, *tokenizer(each)["input_ids"], 5]]) for each in (text, target))
        start = 5 if name == "bart" else 3
        inputs_BT = torch.cat([torch.tensor([[start]]), target_BT[:, :-1]], dim=1)
        theirs = oracle(source_BS, decoder_input_ids=inputs_BT, output_attentions=True)
        check(mine.encoder, theirs.encoder_attentions)
        check(mine.decoder, theirs.decoder_attentions)
        check(mine.cross, theirs.cross_attentions)
        assert len(mine.target_output) == len(mine.target_input) == target_BT.shape[1]


def own(name: str, model: Any) -> tuple[TrainedDescendant, Tokenizer]:
    tokenizer = Tokenizer.train(TEXTS, vocab_size=61, character_coverage=1.0)
    return TrainedDescendant(model(tokenizer), name, tokenizer, special_ids(tokenizer), 1, Path("run")), tokenizer


def test_our_own_models() -> None:
    config = TransformerConfig(d_model=16, d_ff=13, num_heads=2, num_layers=3, dropout=0.0)
    gpt, tokenizer = own("gpt", lambda each: GPT(config, vocab_size=each.vocab_size))
    bert, _ = own("bert", lambda each: BERT(config, vocab_size=each.vocab_size, pad_id=PAD_ID))
    text = "The cat\U0001f600"
    [ids] = tokenizer.encode([text])
    [mine] = record_text_attention(gpt, [text])
    expected: Any = gpt.model
    check(mine.decoder, [*expected.attention_maps(torch.tensor([[BOS_ID, *ids]])).values()])
    assert mine.target_input[0] == "<s>"
    assert mine.target_input[-1] == "<unk:\U0001f600>"
    assert mine.target_output == [*mine.target_input[1:], "</s>"]
    [mine] = record_text_attention(bert, [text])
    expected = bert.model
    check(mine.encoder, [*expected.attention_maps(torch.tensor([[BOS_ID, *ids, EOS_ID]])).values()])
    assert (mine.source[0], mine.source[-1]) == ("<s>", "</s>")
    assert record_text_attention(bert, []) == []


def test_mistakes(tmp_path: Path) -> None:
    folder_with("bert", word_piece(), tmp_path / "bert")
    folder_with("t5", byte_level(), tmp_path / "t5")
    folder_with("gpt2", byte_level(), tmp_path / "gpt2")
    bert, t5 = read(tmp_path / "bert"), read(tmp_path / "t5")
    calls: list[tuple[str, Any]] = [
        ("line 3 has", lambda: record_text_attention(bert, ["cats", "", "a " * 20], first_line=1)),
        ("line 2 is empty", lambda: record_text_attention(read(tmp_path / "gpt2"), ["cats", ""])),
        ("layer 2", lambda: record_text_attention(bert, ["cats"], layers=[2])),
        ("without targets", lambda: record_text_attention(bert, ["cats"], ["cats"])),
        ("give a target", lambda: record_text_attention(t5, ["cats"])),
        ("2 targets", lambda: record_text_attention(t5, ["cats"], ["cats", "x"])),
        ("vocabulary", lambda: record_text_attention(replace(bert, tokenizer=None), ["cats"])),
    ]
    for complaint, call in calls:
        with pytest.raises(UserError, match=complaint):
            call()
