"""What `check` predicts, against counts that others make."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lit_transformer import check
from lit_transformer.batch import EOS_ID, make_batch
from lit_transformer.data.batching import ORDERS, BatchPlan
from lit_transformer.data.packing import PackedPlan
from lit_transformer.model.config import TransformerConfig
from lit_transformer.runs.forecast import activation_bytes, forecast_batches, histogram
from lit_transformer.runs.private_names import cpu_multiplies_bfloat16
from lit_transformer.training.translation import LitTransformer
from tests.helpers.corpora import make_corpus
from tests.helpers.runs import arguments

VOCAB_SIZE = 50
CONFIG = TransformerConfig(d_model=16, d_ff=40, num_heads=2, d_k=6, d_v=10, num_layers=3, dropout=0.1)
PAIRS, SOURCE_LENGTH, TARGET_LENGTH = 4, 9, 12


def full_batch(pairs: int = PAIRS):  # type: ignore[no-untyped-def]
    return make_batch(np.full((pairs, SOURCE_LENGTH), EOS_ID), np.full((pairs, TARGET_LENGTH), EOS_ID))


def test_activations_grow_with_the_batch() -> None:
    module = LitTransformer(CONFIG, vocab_size=VOCAB_SIZE)
    one, two = (activation_bytes(module, full_batch(pairs)) for pairs in (20, 40))
    states = 20 * (SOURCE_LENGTH + TARGET_LENGTH) * CONFIG.d_model * 4
    assert one > 3 * states  # more than one matrix of states a layer
    assert two == pytest.approx(2 * one, rel=0.1)
    assert all(weight.grad is None for weight in module.parameters())


def test_layers_that_are_computed_again_keep_less() -> None:
    """The inputs of all layers, and what one layer keeps while it is computed again."""
    full, less = (
        activation_bytes(LitTransformer(CONFIG, vocab_size=VOCAB_SIZE, activation_checkpointing=again), full_batch(40))
        for again in (False, True)
    )
    assert full / (2 * CONFIG.num_layers) < less < full / 2


def test_batches_are_the_plan_s() -> None:
    random = np.random.default_rng(0)
    source, target = random.integers(2, 40, 400), random.integers(2, 40, 400)
    plan = BatchPlan(source, target, 400, 0)
    batches = forecast_batches(plan, accumulation=3, world_size=2)
    padded = longest_waits = 0
    steps = range(len(ORDERS) * plan.num_batches)
    for step in steps:
        rows = plan.step_rows(step)
        longer = plan.longer_sides(rows)
        for micro_batch in range(3):
            parts = [plan.micro_batch_rows(rows, longer, micro_batch, 3, rank, 2) for rank in range(2)]
            sizes = [len(part) * (source[part].max() + target[part].max()) if len(part) else 0 for part in parts]
            padded += sum(sizes)
            longest_waits += max(sizes)
    tokens = len(ORDERS) * (source.sum() + target.sum())
    assert batches.padding_share == pytest.approx(1 - tokens / padded)
    assert batches.imbalance == pytest.approx(2 * longest_waits / padded - 1)
    assert batches.idle_share == sum(len(plan.step_rows(step)) < 6 for step in steps) / len(steps)
    assert batches.source_tokens * plan.num_batches == pytest.approx(source.sum())


def test_packed_micro_batches_have_one_size_and_little_padding() -> None:
    random = np.random.default_rng(0)
    source = random.integers(2, 40, 3000)
    target = source + random.integers(0, 9, 3000)
    padded, batches = (
        forecast_batches(kind(source, target, 20_000, 0), accumulation=3, world_size=2)
        for kind in (BatchPlan, PackedPlan)
    )
    assert batches.padding_share < padded.padding_share
    assert batches.num_sizes == 1
    assert batches.imbalance == 0.0


def test_histogram() -> None:
    assert histogram(np.array([9, 16, 17, 300])) == [
        ("9 to 16", 0.5),
        ("17 to 24", 0.25),
        *((name, 0.0) for name in ("25 to 32", "33 to 48", "49 to 64", "65 to 96", "97 to 128", "129 to 192")),
        ("193 to 256", 0.0),
        ("above 256", 0.25),
    ]


def test_check_says_what_fit_would_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For any number of devices, on a machine that does not have them; nothing is trained or written."""
    corpus = make_corpus(tmp_path / "corpus")
    options = arguments(corpus, tmp_path / "runs", trainer__devices=16, tokens_per_second=1000, model__warmup_steps=999)
    torch.manual_seed(0)
    check.main(options)
    output = capsys.readouterr().out
    assert "64 of 64 pairs kept" in output
    assert "64 of 64 references (100.0%) can be written exactly; 0 unknown characters" in output
    assert re.search(r"^devices +16, .*\b1 micro-batch per .*\bfullest\b", output, re.MULTILINE)
    assert re.search(r"^speed +1,000 target tokens.*as given", output, re.MULTILINE)
    assert "fewer pairs than 16 x 1 micro-batches" in output
    assert "the run ends before the warm-up does" in output
    assert not list((tmp_path / "runs").rglob("*"))
    corpus.joinpath("valid.de").write_text("Die Katze 猫\n" * 64, encoding="utf-8")
    check.main(arguments(corpus, tmp_path / "runs"))
    output = capsys.readouterr().out
    assert "measured on cpu" in output
    assert "fullest" not in output, "of one device"
    assert "0 of 64 references (0.0%) can be written exactly; 64 unknown characters (猫 64)" in output
    assert "warning       no model with this vocabulary can write 64 of 64 validation references" in output
    assert "warm-up" not in output


PEAK = """
import resource, sys
from lit_transformer.{command} import main
main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="resident sizes are measured in another way")
@pytest.mark.parametrize("recipe", ["copy", "demo"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_forecast_of_memory_on_a_cpu(precision: str, recipe: str, tmp_path: Path, repo_root: Path) -> None:
    """Within a quarter of what the process takes from the system, its program included."""
    if precision == "bf16-mixed" and not cpu_multiplies_bfloat16():
        pytest.skip("this processor has no bfloat16")
    settings = {"trainer.accelerator": "cpu", "trainer.precision": precision, "trainer.max_steps": 100}
    settings |= {"trainer.val_check_interval": 100, "data.cache_dir": tmp_path, "trainer.default_root_dir": tmp_path}
    options = ["--config", recipe, *(f"--{name}={value}" for name, value in settings.items())]
    outputs = [
        subprocess.run(
            [sys.executable, "-c", PEAK.format(command=command), *options],
            cwd=repo_root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for command in ("check", "fit")
    ]
    found = re.search(r"^memory +about ([\d,.]+) ([MG])B per device", outputs[0], re.MULTILINE)
    assert found is not None
    forecast = float(found[1].replace(",", "")) * {"M": 1e6, "G": 1e9}[found[2]]
    assert forecast == pytest.approx(int(outputs[1].split()[-1]), rel=0.25)
