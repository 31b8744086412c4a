from copy import deepcopy

import pytest
import torch

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID
from lit_transformer.decoding import engines
from lit_transformer.decoding.engines import make_engine
from lit_transformer.decoding.settings import BFLOAT16, EngineSettings
from lit_transformer.decoding.static_search import StaticSearch
from lit_transformer.errors import UserError
from lit_transformer.machine import Processor
from lit_transformer.model.config import PositionScheme, TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.search_settings import SearchSettings

SOURCES = [[5, 7, 11, EOS_ID], [13, EOS_ID], [4, 4, 6, 9, 12, 10, EOS_ID]]
V = 17


def make_transformer(positions: PositionScheme = "sinusoidal") -> Transformer:
    config = TransformerConfig(d_model=16, d_ff=19, num_heads=2, num_layers=2, positions=positions)
    return Transformer(config, vocab_size=V, pad_id=PAD_ID).eval().requires_grad_(False)


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary", "alibi", "none"])
def test_bfloat16_finds_nearly_the_same_scores(positions: PositionScheme) -> None:
    """Compared on the same tokens. The model itself stays in float32."""
    transformer = make_transformer(positions)
    settings = SearchSettings(beam_size=2, max_extra_length=5)
    plain = make_engine(EngineSettings(compute_type=BFLOAT16), transformer)
    static = StaticSearch(deepcopy(transformer).bfloat16(), 99)
    found = [*plain.search(SOURCES, settings), *static.search(SOURCES, settings)]
    assert {weight.dtype for weight in transformer.parameters()} == {torch.float32}
    for source, [best, *_] in zip(SOURCES * 2, found, strict=True):
        output = [*best.tokens, EOS_ID][: len(best.token_scores)]
        logits_BTV = transformer(torch.tensor([source]), torch.tensor([[BOS_ID, *output[:-1]]]))
        expected = logits_BTV[0].log_softmax(dim=-1).gather(1, torch.tensor(output)[:, None])[:, 0]
        assert best.token_scores == pytest.approx(expected.tolist(), abs=0.2)
        # Scores of a sum in bfloat16 would have no more than 8 bits.
        assert best.token_scores != torch.tensor(best.token_scores).bfloat16().tolist()


def test_bfloat16_on_a_processor_without_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for features, num_notes in ((["avx2"], 1), (["avx2", "avx512_bf16"], 0), ([], 0)):
        monkeypatch.setattr(engines, "processor", lambda found=features: Processor("", 0, frozenset(found)))
        make_engine(EngineSettings(compute_type=BFLOAT16), make_transformer())
        assert capsys.readouterr().err.count("note: ") == num_notes


def test_a_type_that_there_is_not() -> None:
    with pytest.raises(UserError, match=r"^compute_type is 'int8': .*float32.*bfloat16"):
        make_engine(EngineSettings(compute_type="int8"), make_transformer())


def test_what_changes_translations() -> None:
    """Neither batches and workers, nor CUDA graphs, which compute the same."""
    assert EngineSettings(engine="cuda_graphs", batch_tokens=7, workers=3).changes == {}
    assert EngineSettings(engine="ctranslate2").changes == {"engine": "ctranslate2"}
    int8 = EngineSettings(engine="ctranslate2", compute_type="int8")
    assert int8.changes == {"engine": "ctranslate2", "compute_type": "int8"}
