"""Finding out before the first step what fits into memory. The limit is real: the system's on the address space."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.plugins import Precision

from lit_transformer.batch import EOS_ID, make_batch
from lit_transformer.data.batching import BatchPlan
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.runs import ranks
from lit_transformer.runs.fit_to_memory import FitToMemory, Trial, fewest
from lit_transformer.training import samples
from lit_transformer.training.translation import LitTransformer
from tests.helpers.corpora import make_corpus
from tests.helpers.runs import fit

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its size from Linux' /proc")

resource = pytest.importorskip("resource", reason="Windows has no limit of memory")

PAIRS, LENGTH = 200, 20
D_FF = 2**14  # makes states that malloc takes from the system, not from what earlier tests have left
HIDDEN_BYTES = PAIRS * LENGTH * D_FF * 4
"""Of the feed-forward network's inner states on one side; there are two sides, and autograd keeps them twice."""


@contextmanager
def memory_limit(further_bytes: int) -> Iterator[None]:
    """The process may have so much more than it has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    former = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + further_bytes, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)


@pytest.fixture
def module() -> LitTransformer:
    config = TransformerConfig(d_model=16, d_ff=D_FF, num_heads=2, num_layers=1, dropout=0.0)
    return LitTransformer(config, vocab_size=50)


@pytest.fixture
def trial(module: LitTransformer) -> Trial:
    lengths = np.full(PAIRS, LENGTH)
    row = np.full((1, LENGTH), EOS_ID)

    def batch(rows: Any) -> Any:
        return make_batch(row.repeat(len(rows), axis=0), row.repeat(len(rows), axis=0))

    plan, assembler = BatchPlan(lengths, lengths, PAIRS * LENGTH, 1), SimpleNamespace(batch=batch)
    data: Any = SimpleNamespace(
        plan=plan,
        assembler=lambda **layout: assembler,
        row="pair",
        unit="token",
        device_setting="max_tokens_per_device",
        length_setting="max_length",
    )
    return Trial(module, data, torch.device("cpu"), Precision(), world_size=1)


@given(st.integers(1, 100), st.integers(0, 120))
def test_fewest(most: int, least: int) -> None:
    asked: list[int] = []

    def enough(number: int) -> bool:
        asked.append(number)
        return number >= least

    assert fewest(enough, most) == (max(least, 1) if least <= most else None)
    assert len(asked) == len(set(asked)) <= 15


def test_the_limit_of_memory_is_found(trial: Trial, module: LitTransformer) -> None:
    assert trial.fits(1)
    with memory_limit(2 * HIDDEN_BYTES):
        assert not trial.fits(1)
        found = trial.fewest_micro_batches(agree=lambda fits: fits)
        assert 2 < found < 50
        assert trial.fits(found)
        # Not one less: the system may have found a little room meanwhile.
        assert not trial.fits(found // 2)
    assert trial.fits(1)
    assert all(weight.grad is None for weight in module.parameters())


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_later_micro_batches_find_gradients(trial: Trial, micro_batches: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take memory while the largest micro-batch is computed, unless it is the only one of its step."""
    found: list[bool] = []
    loss_sums = LitTransformer.loss_sums

    def watched(module: LitTransformer, batch: Any) -> Any:
        found.append(all(weight.grad is not None for weight in module.parameters()))
        return loss_sums(module, batch)

    monkeypatch.setattr(LitTransformer, "loss_sums", watched)
    assert trial.fits(micro_batches)
    assert found[0] == (micro_batches > 1)


def test_every_device_must_have_room(trial: Trial) -> None:
    """What this one finds room for, another may not: then it is not taken."""
    answers: list[bool] = []

    def agree(fits: bool) -> bool:
        answers.append(fits)
        return fits and len(answers) > 3

    with memory_limit(100 * HIDDEN_BYTES):
        assert trial.fewest_micro_batches(agree) > 4
    assert all(answers)


def test_nothing_fits(trial: Trial) -> None:
    with memory_limit(0), pytest.raises(UserError, match=r"not even one pair of 20 tokens .*max_length"):
        trial.fewest_micro_batches(agree=lambda fits: False)


def test_without_a_limit_a_cpu_is_not_tried(trial: Trial) -> None:
    with pytest.raises(UserError, match=r"max_tokens_per_device is auto.* CPU.*`ulimit -v KILOBYTES`"):
        trial.fewest_micro_batches(agree=lambda fits: fits)


# One batch with all 64 sentences, 1,300 tokens a side: the widest states are 170 MB, once or twice on each side.
WIDE = {"data__tokens_per_batch": 2000, "model__transformer__d_ff": 2**15, "trainer__max_steps": 2}
ENOUGH_FOR_PART = 400 << 20


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the micro-batches are tried."""
    real = FitToMemory.setup

    def setup(*args: Any, **kwargs: Any) -> None:
        with memory_limit(ENOUGH_FOR_PART):
            real(*args, **kwargs)

    monkeypatch.setattr(FitToMemory, "setup", setup)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("packing", [False, True])
def test_fit_takes_what_fits(packing: bool, tmp_path: Path) -> None:
    settings = WIDE | {"data__packing": packing}
    run = fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", **settings, data__max_tokens_per_device="auto")
    found = re.search(r"auto: ([\d,]+) padded tokens per side\n(?:.*\n)*?.* (\d+) micro-batches per step", run.output)
    assert found, run.output
    assert int(found[2]) > 1
    assert int(found[1].replace(",", "")) < 1300
    assert run.checkpoint(2).exists()


@pytest.mark.usefixtures("little_memory")
def test_fit_says_at_once_that_it_does_not_fit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", **WIDE, data__max_tokens_per_device=2000)
    assert status.value.code == 2
    last_line = capfd.readouterr().err.splitlines()[-1]
    assert re.match(r"error: micro-batches of .*max_tokens_per_device 2000 do not fit .* give fewer", last_line)
    assert not list((tmp_path / "runs").rglob("*.ckpt"))


def test_what_does_not_fit_on_one_rank_ends_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fits_here(*_: Any) -> bool:
        monkeypatch.setattr(ranks, "gather", lambda mine: [mine, UserError("it does not fit on rank 1")])
        return True

    monkeypatch.setattr(Trial, "fits", fits_here)
    with pytest.raises(SystemExit) as status:
        fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", trainer__max_steps=2)
    assert status.value.code == 2
    assert "it does not fit on rank 1" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("owner", "name", "remedy"),
    [
        (LitTransformer, "loss_sums", "max_tokens_per_device"),
        (samples, "search_batch", "validation_batch_tokens"),
    ],
)
def test_later_it_is_said_too(
    owner: Any,
    name: str,
    remedy: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Memory that others take away in the middle of a run; the trial before it and the first step went well."""
    real = getattr(owner, name)
    calls = iter(range(100))

    def fails_at_last(*args: Any, **options: Any) -> Any:
        if name == "search_batch" or next(calls) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return real(*args, **options)

    monkeypatch.setattr(owner, name, fails_at_last)
    with pytest.raises(SystemExit) as status:
        fit(make_corpus(tmp_path / "corpus"), tmp_path / "runs", trainer__max_steps=4, trainer__val_check_interval=4)
    assert status.value.code == 2
    last_line = capfd.readouterr().err.splitlines()[-1]
    assert re.match(rf"error: there is not enough memory \(CUDA .* lower (data\.)?{remedy}", last_line)
