"""The BERT equals that of `transformers`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from lit_transformer.errors import UserError
from lit_transformer.model.bert import BERT, BERT_BASE
from tests.helpers.foreign import LONGEST, assert_equal, bert, every_dtype, load, random_tokens, save
from tests.helpers.oracles import TOLERANCE

B, L, PAD, SEGMENTS = 3, 13, 2, 3
LENGTHS = torch.tensor([L, 5, 7])


def make_pair(folder: Path, dtype: torch.dtype) -> tuple[BERT, Any]:
    """The model and its oracle, with the same random numbers."""
    oracle = save(bert(pad_token_id=PAD), folder, dtype)
    return load(folder).requires_grad_(True), oracle


def padded_tokens() -> Tensor:
    """Padding stands at the end of rows alone."""
    return torch.where(torch.arange(L) < LENGTHS[:, None], random_tokens(B, L), PAD)


@every_dtype
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("segments", [False, True])
def test_it_equals_bert(tmp_path: Path, dtype: torch.dtype, padded: bool, segments: bool) -> None:
    """Also at the positions of padding, which attend to the tokens of their row."""
    model, oracle = make_pair(tmp_path, dtype)
    token_BL = padded_tokens() if padded else random_tokens(B, L)
    segment_BL = torch.randint(SEGMENTS, (B, L)) if segments else None
    theirs = oracle(token_BL, attention_mask=token_BL != PAD, token_type_ids=segment_BL).logits
    assert_equal(model(token_BL, segment_BL), theirs)


@every_dtype
def test_gradients_of_the_loss_equal_those_of_bert(tmp_path: Path, dtype: torch.dtype) -> None:
    model, oracle = make_pair(tmp_path, dtype)
    token_BL, output_BL = padded_tokens(), padded_tokens()
    for logits in (model(token_BL), oracle(token_BL, attention_mask=token_BL != PAD).logits):
        F.cross_entropy(logits.flatten(0, 1), output_BL.flatten(), ignore_index=PAD).backward()
    for mine, expected in (
        (model.head.weight, oracle.cls.predictions.transform.dense.weight),
        (model.output.bias, oracle.cls.predictions.bias),
        (model.segment_embedding.weight, oracle.bert.embeddings.token_type_embeddings.weight),
        (
            model.stack.layers[0].self_attention.output.weight,
            oracle.bert.encoder.layer[0].attention.output.dense.weight,
        ),
    ):
        assert mine is not None
        assert expected.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.grad, expected.grad, rtol=1e-4, atol=TOLERANCE[dtype])


def test_padding_changes_nothing(tmp_path: Path) -> None:
    model, _ = make_pair(tmp_path, torch.float64)
    token_BL = padded_tokens()
    for row, length in enumerate(LENGTHS.tolist()):
        assert_equal(model(token_BL)[row, :length], model(token_BL[row : row + 1, :length])[0])


def test_attention_maps_equal_those_of_bert(tmp_path: Path) -> None:
    model, oracle = make_pair(tmp_path, torch.float64)
    token_BL, segment_BL = padded_tokens(), torch.randint(SEGMENTS, (B, L))
    maps = model.attention_maps(token_BL, segment_BL)
    theirs = oracle(
        token_BL, attention_mask=token_BL != PAD, token_type_ids=segment_BL, output_attentions=True
    ).attentions
    assert list(maps) == [0, 1]
    for layer, weights_BHLL in maps.items():
        torch.testing.assert_close(weights_BHLL, theirs[layer], rtol=0.0, atol=1e-10)
    assert list(model.attention_maps(token_BL, layers=[1])) == [1]


def test_the_published_settings(tmp_path: Path) -> None:
    """Without the pooler and the prediction of the next sentence, which masked language modeling does not train."""
    model, _ = make_pair(tmp_path, torch.float32)
    assert model.config == replace(BERT_BASE, d_model=35, d_ff=23, num_heads=5, num_layers=2, max_positions=LONGEST)
    with torch.device("meta"):
        base, published = BERT(BERT_BASE, vocab_size=30522, pad_id=0), BertForMaskedLM(BertConfig())
    assert sum(parameter.numel() for parameter in base.parameters()) == published.num_parameters() == 109_514_298


def test_more_tokens_than_positions_are_one_error(tmp_path: Path) -> None:
    model, _ = make_pair(tmp_path, torch.float32)
    with pytest.raises(UserError, match=rf"{LONGEST + 1} tokens .* max_positions {LONGEST}"):
        model(random_tokens(1, LONGEST + 1))
