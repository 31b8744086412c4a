"""The BERT equals that of `transformers`."""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

from lit_transformer.errors import UserError
from lit_transformer.model.bert import BERT, BERT_BASE
from tests.helpers.oracles import TOLERANCE, bert_weights, load, randomize

B, L, V, PAD, SEGMENTS = 3, 13, 29, 2, 5
CONFIG = replace(BERT_BASE, d_model=33, d_ff=23, num_heads=3, num_layers=2, max_positions=17, dropout=0.0)
LENGTHS = torch.tensor([L, 5, 7])
every_dtype = pytest.mark.parametrize("dtype", list(TOLERANCE))


def make_pair(dtype: torch.dtype) -> tuple[BERT, Any]:
    """The model and its oracle, with the same random numbers."""
    oracle: Any = BertForMaskedLM(
        BertConfig(
            vocab_size=V,
            max_position_embeddings=17,
            hidden_size=33,
            num_hidden_layers=2,
            num_attention_heads=3,
            intermediate_size=23,
            type_vocab_size=SEGMENTS,
            pad_token_id=PAD,
        )
    )
    randomize(oracle, dtype)
    bert = BERT(CONFIG, vocab_size=V, pad_id=PAD, num_segments=SEGMENTS).to(dtype).eval()
    load(bert, bert_weights(oracle))
    return bert, oracle


def random_tokens(*, padded: bool) -> Tensor:
    """Padding stands at the end of rows alone."""
    token_BL = torch.randint(PAD + 1, V, (B, L))
    return torch.where(torch.arange(L) < LENGTHS[:, None], token_BL, PAD) if padded else token_BL


def assert_equal(mine: Tensor, theirs: Tensor) -> None:
    assert theirs.std() > 0.1
    torch.testing.assert_close(mine, theirs, rtol=0.0, atol=TOLERANCE[theirs.dtype])


@every_dtype
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("segments", [False, True])
def test_it_equals_bert(dtype: torch.dtype, padded: bool, segments: bool) -> None:
    """Also at the positions of padding, which attend to the tokens of their row."""
    bert, oracle = make_pair(dtype)
    token_BL = random_tokens(padded=padded)
    segment_BL = torch.randint(SEGMENTS, (B, L)) if segments else None
    theirs = oracle(token_BL, attention_mask=token_BL != PAD, token_type_ids=segment_BL).logits
    assert_equal(bert(token_BL, segment_BL), theirs)


@every_dtype
def test_gradients_of_the_loss_equal_those_of_bert(dtype: torch.dtype) -> None:
    bert, oracle = make_pair(dtype)
    token_BL, output_BL = random_tokens(padded=True), random_tokens(padded=True)
    loss = F.cross_entropy(bert(token_BL).flatten(0, 1), output_BL.flatten(), ignore_index=PAD)
    labels = output_BL.masked_fill(output_BL == PAD, -100)
    theirs = oracle(token_BL, attention_mask=token_BL != PAD, labels=labels).loss
    loss.backward()
    theirs.backward()
    torch.testing.assert_close(loss, theirs, rtol=0.0, atol=TOLERANCE[dtype])
    for mine, expected in (
        (bert.head.weight, oracle.cls.predictions.transform.dense.weight),
        (bert.output.bias, oracle.cls.predictions.bias),
        (bert.segment_embedding.weight, oracle.bert.embeddings.token_type_embeddings.weight),
        (bert.stack.layers[0].self_attention.output.weight, oracle.bert.encoder.layer[0].attention.output.dense.weight),
    ):
        assert mine is not None
        assert expected.grad.abs().max() > 1e-3
        torch.testing.assert_close(mine.grad, expected.grad, rtol=1e-4, atol=TOLERANCE[dtype])


def test_padding_changes_nothing() -> None:
    bert, _ = make_pair(torch.float64)
    token_BL = random_tokens(padded=True)
    for row, length in enumerate(LENGTHS.tolist()):
        assert_equal(bert(token_BL)[row, :length], bert(token_BL[row : row + 1, :length])[0])


def test_attention_maps_equal_those_of_bert() -> None:
    bert, oracle = make_pair(torch.float64)
    token_BL, segment_BL = random_tokens(padded=True), torch.randint(SEGMENTS, (B, L))
    maps = bert.attention_maps(token_BL, segment_BL)
    theirs = oracle(
        token_BL, attention_mask=token_BL != PAD, token_type_ids=segment_BL, output_attentions=True
    ).attentions
    assert list(maps) == [0, 1]
    for layer, weights_BHLL in maps.items():
        torch.testing.assert_close(weights_BHLL, theirs[layer], rtol=0.0, atol=1e-10)
    assert list(bert.attention_maps(token_BL, layers=[1])) == [1]


def test_more_tokens_than_positions_are_one_error() -> None:
    bert, _ = make_pair(torch.float32)
    with pytest.raises(UserError, match=r"18 tokens .* max_positions 17"):
        bert(torch.full((1, 18), PAD + 1))


def test_the_published_size() -> None:
    """Without the pooler and the prediction of the next sentence, which masked language modeling does not train."""
    with torch.device("meta"):
        bert, published = BERT(BERT_BASE, vocab_size=30522, pad_id=0), BertForMaskedLM(BertConfig())
    assert sum(parameter.numel() for parameter in bert.parameters()) == published.num_parameters() == 109_514_298
