import pytest
import torch

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID, pad
from lit_transformer.decoding import transformer_search
from lit_transformer.decoding.search import beam_search
from lit_transformer.decoding.transformer_search import SPECIAL_IDS, TransformerSearch, search_batch
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SamplingSettings, SearchSettings

SOURCES = [[5, 7, 11, EOS_ID], [13, EOS_ID], [4, 4, 6, 9, 12, 10, EOS_ID]]
V = 17


@pytest.fixture
def transformer() -> Transformer:
    """In float64, where no two hypotheses come so close that a rounding decides between them."""
    config = TransformerConfig(d_model=14, d_ff=19, num_heads=2, num_layers=2)
    return Transformer(config, vocab_size=V, pad_id=PAD_ID).double().eval().requires_grad_(False)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_scores_of_tokens_are_those_of_teacher_forcing(transformer: Transformer, beam_size: int) -> None:
    settings = SearchSettings(beam_size=beam_size, n_best=beam_size)
    for source, hypotheses in zip(
        SOURCES, search_batch(transformer, torch.from_numpy(pad(SOURCES)), settings), strict=True
    ):
        for best in hypotheses:
            # One that was cut off at the greatest length has no score of EOS.
            output = [*best.tokens, EOS_ID][: len(best.token_scores)]
            logits_BTV = transformer(torch.tensor([source]), torch.tensor([[BOS_ID, *output[:-1]]]))
            expected = logits_BTV[0].log_softmax(dim=-1).gather(1, torch.tensor(output)[:, None])[:, 0]
            assert best.token_scores == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_given_targets_are_scored_as_by_teacher_forcing(transformer: Transformer, beam_size: int) -> None:
    targets = [[BOS_ID, 9, 8, EOS_ID], [BOS_ID, EOS_ID], [BOS_ID, 4, PAD_ID, 16, 4, EOS_ID]]
    found = beam_search(
        transformer.step,
        transformer.start(transformer.encode(torch.from_numpy(pad(SOURCES))), beam_size=beam_size),
        settings=SearchSettings(beam_size=beam_size),
        max_length_B=torch.tensor([len(target) - 1 for target in targets]),
        ids=SPECIAL_IDS,
        prefix=targets,
    )
    for source, target, [only] in zip(SOURCES, targets, found, strict=True):
        logits_BTV = transformer(torch.tensor([source]), torch.tensor([target[:-1]]))
        expected = logits_BTV[0].log_softmax(dim=-1).gather(1, torch.tensor(target[1:])[:, None])[:, 0]
        assert only.tokens == target[1:-1]
        assert only.token_scores == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("extra", [0, 3, SearchSettings().max_extra_length])
def test_outputs_have_a_greatest_length(extra: int, transformer: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformer_search, "SPECIAL_IDS", SPECIAL_IDS._replace(banned=(*SPECIAL_IDS.banned, EOS_ID)))
    settings = SearchSettings(beam_size=1, max_extra_length=extra)
    found = search_batch(transformer, torch.from_numpy(pad(SOURCES)), settings)
    for source, [best] in zip(SOURCES, found, strict=True):
        assert len(best.tokens) == len(best.token_scores) == len(source) + extra
        assert not best.finished


@pytest.mark.parametrize("batch_tokens", [1, 8, 999])
def test_batches_do_not_change_what_is_found(transformer: Transformer, batch_tokens: int) -> None:
    settings = SearchSettings(beam_size=2)
    found = TransformerSearch(transformer, batch_tokens).search(SOURCES, settings)
    alone = [search_batch(transformer, torch.tensor([source]), settings)[0] for source in SOURCES]
    assert [[best.tokens for best in each] for each in found] == [[best.tokens for best in each] for each in alone]


@pytest.mark.parametrize("batch_tokens", [1, 8, 999])
def test_batches_do_not_change_what_is_drawn(transformer: Transformer, batch_tokens: int) -> None:
    """To the bit. A sentence is known by its number, wherever it stands."""
    settings = SearchSettings(sampling=SamplingSettings(seed=1), n_best=3)
    numbers = [7, 5, 2**40]
    found = TransformerSearch(transformer, batch_tokens).search(SOURCES, settings, numbers)
    alone = [
        search_batch(transformer, torch.tensor([source]), settings, torch.tensor([number]))[0]
        for source, number in zip(SOURCES, numbers, strict=True)
    ]
    assert [[each.tokens for each in samples] for samples in found] == [
        [each.tokens for each in samples] for samples in alone
    ]
    assert found != TransformerSearch(transformer, batch_tokens).search(SOURCES, settings)


def test_a_least_length_for_which_the_model_has_no_positions() -> None:
    config = TransformerConfig(d_model=14, d_ff=19, num_heads=2, num_layers=2, positions="learned", max_positions=7)
    transformer = Transformer(config, vocab_size=V, pad_id=PAD_ID).eval()
    source_BS = torch.from_numpy(pad(SOURCES))
    [*_, best] = search_batch(transformer, source_BS, SearchSettings(min_length=6))
    assert len(best[0].tokens) >= 6
    with pytest.raises(UserError, match=r"^min_length is 7: .* positions, 7$"):
        search_batch(transformer, source_BS, SearchSettings(min_length=7))
