"""Contests of tiny models in this process: all contestants compute the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lit_transformer.benchmarks.decoding import DecodingJob, search_settings
from lit_transformer.benchmarks.measures import Contest, decoding_contest, hold, training_contest
from lit_transformer.benchmarks.results import Result
from lit_transformer.benchmarks.sentences import draw_batches, draw_sources
from lit_transformer.benchmarks.sizes import Size
from lit_transformer.benchmarks.training import TrainingJob
from lit_transformer.checkpoints import ctranslate2_folder
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig

V = 101
SIZE = Size(config=TransformerConfig(d_model=32, d_ff=48, num_heads=4, num_layers=2), vocab_size=V)


def results_of(contest: Contest) -> dict[str, Result]:
    failures: list[Any] = []
    [(_, results)] = hold([contest], lambda *failure: failures.append(failure), in_process=True)
    assert not failures
    return {result.contestant: result for result in results}


def test_peers_without_such_an_architecture_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ctranslate2_folder, "CACHE_DIR", str(tmp_path))
    size = replace(SIZE, config=replace(SIZE.config, positions="alibi"))
    sources = draw_sources(1, batch_size=2, vocab_size=V, seed=1)
    settings = search_settings(is_trained=False, beam_size=1)
    job = DecodingJob(size=size, sources=sources, settings=settings, device="cpu", threads=1)
    contest = decoding_contest("", job, ["marian", "ctranslate2"], {}, seconds=0.01)
    assert list(contest.entries) == ["ours", "marian"]
    assert "alibi" in capsys.readouterr().err
    prepare, theirs = contest.entries["marian"]
    with pytest.raises(UserError, match="sinusoid"):
        prepare(theirs)


def test_peers_start_training_at_our_loss() -> None:
    batches = draw_batches(3, tokens_per_batch=300, vocab_size=V, seed=1)
    job = TrainingJob(size=SIZE, batches=batches, device="cpu", precision="32-true", threads=1)
    found = results_of(training_contest("", job, ["torch", "marian"], [("packing",)], seconds=0.01))
    assert list(found) == ["ours", "ours, packing", "torch", "marian"]
    for result in found.values():
        assert result.facts["first_loss"] == pytest.approx(found["ours"].facts["first_loss"], rel=1e-4)
        assert result.per_second.median > 0


@pytest.mark.parametrize("beam_size", [1, 4])
def test_peers_find_our_translations(beam_size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctranslate2_folder, "CACHE_DIR", str(tmp_path))
    sources = draw_sources(3, batch_size=5, vocab_size=V, seed=1)
    settings = search_settings(is_trained=False, beam_size=beam_size)
    job = DecodingJob(size=SIZE, sources=sources, settings=settings, device="cpu", threads=1)
    found = results_of(decoding_contest("", job, ["torch", "marian", "ctranslate2"], {}, seconds=0.01))
    assert list(found) == ["ours", "marian", "ctranslate2 float32", "ctranslate2 int8"]
    assert found["marian"].facts["equal"] == found["ctranslate2 float32"].facts["equal"] == (15, 15)
