"""Continuations of prompts, against `generate` of `transformers` and token by token."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from lit_transformer.decoding.gpt_search import NO_TOKEN, GPTSearch
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.scoring import SpecialIds
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.gpt import GPT
from lit_transformer.search_settings import SamplingSettings, SearchSettings
from tests.helpers.foreign import VOCAB_SIZE, gpt2, load, save

EOS, NEW = 20, 11
IDS = SpecialIds(bos=NO_TOKEN, eos=EOS, banned=())
PROMPTS = [[7, 3, 11], [4], [9, 9, 30, 1, 2], [8, 2, 6], [0, 13, 21]]
GREEDY = SearchSettings(beam_size=1, min_length=0)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """A GPT-2 of `transformers` in float64, and ours with its weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("gpt2")
    oracle = save(gpt2(bos_token_id=0, eos_token_id=EOS), folder, torch.float64).eval()
    return oracle, load(folder)


def find(
    gpt: Any, settings: SearchSettings, prompts: Sequence[list[int]] = PROMPTS, numbers: Sequence[int] | None = None
) -> list[list[Hypothesis]]:
    numbers = range(len(prompts)) if numbers is None else numbers
    return GPTSearch(gpt, IDS, batch_tokens=99).search(prompts, settings, numbers, max_new_tokens=NEW)


@pytest.mark.parametrize("beam_size", [1, 3, 5])
@pytest.mark.parametrize(("alpha", "stopping"), [(0.0, "exact"), (1.0, "heuristic"), (0.7, "full")])
def test_search_equals_generate(models: tuple[Any, Any], beam_size: int, alpha: float, stopping: str) -> None:
    oracle, ours = models
    early = {"exact": "never", "heuristic": False, "full": True}[stopping]
    settings = SearchSettings(
        beam_size=beam_size,
        length_penalty=alpha,
        length_normalization="length",
        stopping=stopping,  # type: ignore[arg-type]
        min_length=0,
    )
    lengths = set()
    for prompt, [found] in zip(PROMPTS, find(ours, settings), strict=True):
        beams = {"length_penalty": alpha, "early_stopping": early} if beam_size > 1 else {}
        expected = oracle.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            num_beams=beam_size,
            do_sample=False,
            max_new_tokens=NEW,
            pad_token_id=EOS,
            **beams,
        )[0, len(prompt) :].tolist()
        # Here, texts that ended come before those that were cut, whatever their scores.
        if found.finished and expected[-1] != EOS:
            assert beam_size > 1
            continue
        assert [*found.tokens, *[EOS] * found.finished] == expected
        lengths.add(len(expected))
    assert NEW in lengths
    assert alpha == 1.0 or len(lengths) > 1, "some continuations end, and some are cut"


def tokens_of(found: list[list[Hypothesis]]) -> list[list[list[int]]]:
    return [[each.tokens for each in hypotheses] for hypotheses in found]


def test_a_sample_depends_on_its_number_only(models: tuple[Any, Any]) -> None:
    settings = SearchSettings(sampling=SamplingSettings(seed=3), n_best=2, min_length=0)
    together = tokens_of(find(models[1], settings))
    assert len({tuple(tokens) for samples in together for tokens in samples}) > 5
    for index, prompt in enumerate(PROMPTS):
        assert tokens_of(find(models[1], settings, [prompt], numbers=[index])) == [together[index]]
    order = [3, 0, 4, 2, 1]
    drawn = find(models[1], settings, [PROMPTS[index] for index in order], numbers=order)
    assert tokens_of(drawn) == [together[index] for index in order]


def test_scores_are_the_models_own(models: tuple[Any, Any]) -> None:
    """Of the continuation alone, as the forward pass computes them."""
    gpt = models[1]
    settings = SearchSettings(sampling=SamplingSettings(temperature=0.5, top_k=9), length_penalty=0.0, min_length=0)
    for prompt, [found] in zip(PROMPTS, find(gpt, settings), strict=True):
        tokens = [*prompt, *found.tokens, *[EOS] * found.finished]
        log_prob_LV = gpt(torch.tensor([tokens[:-1]]))[0].log_softmax(dim=-1)
        own = [float(log_prob_LV[place - 1, tokens[place]]) for place in range(len(prompt), len(tokens))]
        assert found.token_scores == pytest.approx(own, abs=1e-9)
        assert found.score == pytest.approx(sum(own), abs=1e-4)


@pytest.mark.parametrize("settings", [GREEDY, SearchSettings(beam_size=2), SearchSettings(sampling=SamplingSettings())])
def test_learned_positions_end_a_text(models: tuple[Any, Any], settings: SearchSettings) -> None:
    """The last token needs no position, because it is not read. Others end as before."""
    gpt = models[1]
    longest = gpt.config.longest
    unending = GPTSearch(gpt, IDS._replace(eos=NO_TOKEN), batch_tokens=99)
    prompts = [[1] * length for length in (1, longest - 3, longest)]
    found: list[list[Hypothesis]] = unending.search(prompts, settings, range(3), max_new_tokens=50)
    assert [len(best[0].tokens) for best in found] == [longest, 4, 1]
    assert not any(best[0].finished for best in found)


def test_prompts_are_read_as_token_by_token() -> None:
    """Also with relative positions and windows, whose caches are others."""
    torch.manual_seed(1)
    for settings in ({"positions": "alibi"}, {"positions": "rotary", "window": 3}, {"positions": "relative"}):
        config = TransformerConfig(d_model=12, d_ff=19, num_heads=2, num_layers=2, dropout=0.0, **settings)
        gpt = GPT(config, vocab_size=VOCAB_SIZE).double().eval().requires_grad_(False)
        for prompt, [found] in zip(PROMPTS, find(gpt, GREEDY), strict=True):
            tokens = list(prompt)
            while len(tokens) < len(prompt) + NEW and (tokens[-1] != EOS or len(tokens) == len(prompt)):
                tokens.append(int(gpt(torch.tensor([tokens]))[0, -1].argmax()))
            assert [*found.tokens, *[EOS] * found.finished] == tokens[len(prompt) :]
