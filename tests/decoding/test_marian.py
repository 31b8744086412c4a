"""Search and model against an independent implementation of both: Marian of `transformers` with our weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import MarianMTModel

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from lit_transformer.benchmarks.marian_peer import marian_of
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.scoring import SpecialIds
from lit_transformer.decoding.search import beam_search
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings

B, S, V, MAX_LENGTH, NUM_STEPS = 13, 11, 31, 43, 100
CONFIG = TransformerConfig(d_model=22, d_ff=29, num_heads=2, num_layers=3, dropout=0.0)
IDS = SpecialIds(bos=BOS_ID, eos=EOS_ID, banned=(PAD_ID, UNK_ID, BOS_ID))


def random_sources(num_sentences: int) -> Tensor:
    """Pieces of 1 to S - 1 positions and EOS, padded."""
    ids = torch.randint(EOS_ID + 1, V, (num_sentences, S))
    length_B1 = torch.randint(1, S, (num_sentences, 1))
    place_S = torch.arange(S)
    return ids.masked_fill(place_S == length_B1, EOS_ID).masked_fill(place_S > length_B1, PAD_ID)


@pytest.fixture(scope="module")
def ours() -> Transformer:
    """Trained for a second to copy, with slips: random weights say nothing, or the same for ever.

    In float64: every processor learns the same, and no rounding decides between two hypotheses.
    """
    torch.manual_seed(1)
    transformer = Transformer(CONFIG, vocab_size=V, pad_id=PAD_ID).double()
    optimizer = torch.optim.Adam(transformer.parameters(), lr=3e-3)
    for _ in range(NUM_STEPS):
        source_BS = random_sources(61)
        slips_BS = (torch.rand(source_BS.shape) < 0.3) & (source_BS > EOS_ID)
        target_BS = torch.where(slips_BS, torch.randint(EOS_ID + 1, V, source_BS.shape), source_BS)
        input_BS = torch.cat([torch.full((61, 1), BOS_ID), target_BS[:, :-1]], dim=1)
        logits_NV = transformer(source_BS, input_BS).flatten(0, 1)
        optimizer.zero_grad()
        F.cross_entropy(logits_NV, target_BS.flatten(), ignore_index=PAD_ID).backward()
        optimizer.step()
    return transformer.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def marian(ours: Transformer) -> MarianMTModel:
    # The peer of the benchmark, in float64.
    return marian_of(ours, max_positions=MAX_LENGTH + 1).eval().double()


@pytest.fixture(scope="module")
def source_BS() -> Tensor:
    torch.manual_seed(2)
    return random_sources(B)


def translate(ours: Transformer, source_BS: Tensor, *, beam_size: int, min_length: int = 0) -> list[list[Hypothesis]]:
    """All that the beam found; alpha 0 is the one length penalty that both formulas share."""
    return beam_search(
        ours.step,
        ours.start(ours.encode(source_BS), beam_size=beam_size),
        settings=SearchSettings(beam_size=beam_size, n_best=beam_size, length_penalty=0.0, min_length=min_length),
        max_length_B=torch.full((len(source_BS),), MAX_LENGTH),
        ids=IDS,
    )


def test_logits_equal_marian(ours: Transformer, marian: MarianMTModel, source_BS: Tensor) -> None:
    target_BT = torch.randint(EOS_ID, V, (B, 11))
    expected = marian(input_ids=source_BS, attention_mask=source_BS != PAD_ID, decoder_input_ids=target_BT).logits
    torch.testing.assert_close(ours(source_BS, target_BT), expected, rtol=0.0, atol=1e-4)


@pytest.mark.parametrize(("beam_size", "min_length"), [(1, 0), (2, 0), (4, 0), (1, 6), (4, 6)])
def test_search_equals_generate(
    ours: Transformer, marian: MarianMTModel, source_BS: Tensor, beam_size: int, min_length: int
) -> None:
    found = translate(ours, source_BS, beam_size=beam_size, min_length=min_length)
    expected = marian.generate(
        input_ids=source_BS,
        attention_mask=source_BS != PAD_ID,
        num_beams=beam_size,
        num_return_sequences=beam_size,
        do_sample=False,
        early_stopping="never" if beam_size > 1 else None,
        length_penalty=0.0 if beam_size > 1 else None,
        max_new_tokens=MAX_LENGTH,
        min_new_tokens=min_length,
        suppress_tokens=list(IDS.banned),
        return_dict_in_generate=True,
        output_scores=True,
    )
    rows = [row[1 : row.index(EOS_ID)] for row in expected.sequences.tolist()]
    assert [hypothesis.tokens for sentence in found for hypothesis in sentence] == rows
    scores = torch.tensor([hypothesis.score for sentence in found for hypothesis in sentence]).double()
    if beam_size > 1:
        torch.testing.assert_close(scores, expected.sequences_scores.double(), rtol=0.0, atol=1e-3)


def test_the_oracle_is_asked_something(ours: Transformer, source_BS: Tensor) -> None:
    greedy, beam = translate(ours, source_BS, beam_size=1), translate(ours, source_BS, beam_size=4)
    lengths = {len(sentence[0].tokens) for sentence in beam}
    assert len(lengths) >= 5
    assert max(lengths) < MAX_LENGTH
    assert len({tuple(sentence[0].tokens) for sentence in beam}) > B // 2
    assert sum(one[0].tokens != four[0].tokens for one, four in zip(greedy, beam, strict=True)) >= 3
