"""What `fit` chooses where the user has not chosen, and which numbers it takes."""

from pathlib import Path

import lightning as L
import pytest
import torch

from lit_transformer import check
from lit_transformer.cli.process_state import process_state_kept
from lit_transformer.cli.training import CheckCLI, FitCLI, has_bfloat16, parse
from lit_transformer.errors import UserError
from tests.helpers.runs import WARMUP_STEPS, arguments, own_lines


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("instructions", [True, False])
def test_bfloat16_needs_instructions_and_kernels_that_may_use_them(
    instructions: bool, kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ONEDNN_MAX_CPU_ISA` forbids them to oneDNN, and then bfloat16 takes 20 times as long as float32."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: kernels)
    assert has_bfloat16("cpu") == (instructions and kernels)


def trainer_of(corpus: Path, root: Path, *options: str) -> L.Trainer:
    return parse([*arguments(corpus, root, trainer__precision="null"), *options], FitCLI).trainer


DOUBLE = "lightning.pytorch.plugins.DoublePrecision"
MIXED = """
trainer:
  plugins:
  - class_path: lightning.pytorch.plugins.MixedPrecision
    init_args: {precision: bf16-mixed, device: cpu}
"""


def test_a_precision_that_is_named_by_its_class(corpus: Path, tmp_path: Path) -> None:
    """It takes the place of the default, as a plugin, in a list in YAML, and in a strategy."""
    (tmp_path / "mixed.yaml").write_text(MIXED)
    mixed = "--trainer.plugins=MixedPrecision", "--trainer.plugins.precision=bf16-mixed"
    strategy = "--trainer.strategy=lightning.pytorch.strategies.SingleDeviceStrategy", "--trainer.strategy.device=cpu"
    for options, precision in (
        ([f"--trainer.plugins={DOUBLE}"], "64-true"),
        ([*mixed, "--trainer.plugins.device=cpu"], "bf16-mixed"),
        ([f"--config={tmp_path / 'mixed.yaml'}"], "bf16-mixed"),
        ([*strategy, f"--trainer.strategy.precision_plugin={DOUBLE}"], "64-true"),
    ):
        assert trainer_of(corpus, tmp_path, *options).precision == precision
        with pytest.raises(UserError, match=r"trainer\.precision is 32-true.*Precision: leave one"):
            trainer_of(corpus, tmp_path, *options, "--trainer.precision=32-true")


def test_other_plugins(corpus: Path, tmp_path: Path) -> None:
    """A cluster's leaves the default precision. One that writes checkpoints would not be used, and is refused."""
    default = trainer_of(corpus, tmp_path).precision
    cluster = "--trainer.plugins=lightning.pytorch.plugins.environments.LightningEnvironment"
    assert trainer_of(corpus, tmp_path, cluster).precision == default
    with pytest.raises(UserError, match=r"names AsyncCheckpointIO\b.*leave it out"):
        trainer_of(corpus, tmp_path, "--trainer.plugins=lightning.pytorch.plugins.AsyncCheckpointIO")


@pytest.mark.parametrize(
    ("name", "value", "example"),
    [
        ("data.tokens_per_batch", "1e5", "100000"),
        ("data.max_tokens_per_device", "2.5e4", "25000"),
        ("data.num_workers", "2.0", "2"),
        ("trainer.max_steps", "1.0e+5", "100000"),
        ("trainer.val_check_interval", "1e3", "1000"),
        ("model.transformer.d_model", "25.5", ""),
        ("seed_everything", "1e3", "1000"),
    ],
)
def test_whole_numbers_in_the_notation_of_others(tmp_path: Path, name: str, value: str, example: str) -> None:
    """To YAML, 1e5 is a float."""
    section, _, key = name.rpartition(".")
    (tmp_path / "x.yaml").write_text(f"{section}:\n  {key}: {value}\n".removeprefix(":\n"))
    for given in ([f"--{name}={value}"], ["--config", str(tmp_path / "x.yaml")]):
        with pytest.raises(UserError, match=rf"^{name} is {float(value)}: .*\b{example}$") as error:
            parse(["--config=demo", f"--trainer.default_root_dir={tmp_path}", *given], CheckCLI)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_random_seed(corpus: Path, tmp_path: Path, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is another one each time, and printed and recorded, so that the run can be repeated."""
    seeds = set()
    for _ in range(2):
        with process_state_kept():
            cli = parse([*arguments(corpus, tmp_path), f"--seed_everything={value}"], FitCLI)
        seed = cli.config.seed_everything
        assert cli.model.seed == cli.config.data.seed == seed
        [note] = own_lines(capsys.readouterr().err)
        assert f" {seed} " in note
        seeds.add(seed)
    assert len(seeds) == 2


def test_a_recipe_without_config(corpus: Path, tmp_path: Path) -> None:
    """As other programs take it. A file and a name can be mixed with options."""
    (tmp_path / "seed.yaml").write_text("seed_everything: 97")
    cli = parse(["copy", str(tmp_path / "seed.yaml"), *arguments(corpus, tmp_path)], FitCLI)
    assert cli.config.seed_everything == 97
    assert cli.config.model.warmup_steps == WARMUP_STEPS
    with pytest.raises(UserError, match=r"--config cpoy: .*did you mean copy\?"):
        parse(["cpoy"], FitCLI)


def test_check_leaves_no_folder(corpus: Path, tmp_path: Path) -> None:
    check.main([*arguments(corpus, tmp_path / "runs"), "--tokens_per_second=1000"])
    assert not (tmp_path / "runs").exists()
