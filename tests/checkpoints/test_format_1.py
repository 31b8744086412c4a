"""What format 1 holds is read as if it had been written today."""

import json
import re
from itertools import product
from pathlib import Path
from typing import Any, get_args

import lightning as L
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lit_transformer import Translator
from lit_transformer.checkpoints.format_1 import to_format_2
from lit_transformer.cli.process_state import process_state_kept
from lit_transformer.cli.training import FitCLI, parse
from lit_transformer.machine import prepare_products
from lit_transformer.model.config import Norm, PositionScheme, TransformerConfig
from lit_transformer.model.transformer import Transformer
from tests.helpers.runs import arguments, fit, load, same

VARIANT: dict[str, Any] = {
    "model__transformer__d_model": 16,
    "model__transformer__d_ff": 8,
    "model__transformer__num_heads": 2,
    "model__transformer__num_layers": 2,
    "model__transformer__max_positions": 64,
    "model__transformer__norm": "pre",
    "model__transformer__positions": "learned",
    "trainer__max_steps": 3,
    "trainer__val_check_interval": 3,
    "checkpoints__every_n_train_steps": 1,
}
"""What format 1 named and numbered otherwise is all there."""
SIDES = {"encoder": "source", "decoder": "target"}


def old_name(name: str) -> str:
    name = re.sub(r"^(encoder|decoder)\.positions\.", lambda side: f"{SIDES[side[1]]}_positions.", name)
    name = re.sub(r"^(encoder|decoder)\.norm\.", r"\1_norm.", name)
    return re.sub(r"^(encoder|decoder)\.layers\.", r"\1.", name)


def place(name: str) -> int:
    """In the order that weights had in format 1."""
    parts = (
        "embedding",
        "source_positions",
        "target_positions",
        "encoder.",
        "decoder.",
        "encoder_norm",
        "decoder_norm",
    )
    [found] = [number for number, part in enumerate(parts) if name.startswith(part)]
    return found


def old_weights(weights: dict[str, Tensor], *, copies: bool = False) -> dict[str, Tensor]:
    """Weights as format 1 named them; with `copies` the learned positions once more in every layer."""
    names = {old_name(name): name for name in weights}
    old = {name: weights[names[name]] for name in sorted(names, key=place)}
    if copies:
        for side, language in SIDES.items():
            for layer in range(VARIANT["model__transformer__num_layers"]):
                table = old[f"{language}_positions.table.weight"]
                old[f"{side}.{layer}.self_attention.positions.table.weight"] = table
    return old


def to_format_1(checkpoint: dict[str, Any], *, copies: bool = False) -> dict[str, Any]:
    weights = {name.removeprefix("transformer."): value for name, value in checkpoint["state_dict"].items()}
    old = old_weights(weights, copies=copies)
    numbers = {old_name(name): number for number, name in enumerate(weights)}
    [optimizer] = checkpoint["optimizer_states"]
    optimizer["state"] = {
        number: optimizer["state"][numbers[name]] for number, name in enumerate(name for name in old if name in numbers)
    }
    checkpoint["state_dict"] = {f"transformer.{name}": value for name, value in old.items()}
    checkpoint["lit_transformer"]["format"] = 1
    return checkpoint


@pytest.fixture(scope="module")
def run(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoints of a run of three steps in the present format."""
    return fit(corpus, tmp_path_factory.mktemp("run"), **VARIANT).folder / "checkpoints"


@pytest.fixture(scope="module", params=[False, True], ids=["format 1", "version 0.1.0"])
def old(run: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of the second step in format 1."""
    path = tmp_path_factory.mktemp("old") / "step-00000002.ckpt"
    torch.save(to_format_1(load(run / path.name), copies=request.param), path)
    return path


def test_a_checkpoint_translates_as_before(run: Path, old: Path) -> None:
    mine, theirs = (Translator.load(path, device="cpu") for path in (run / old.name, old))
    assert same(dict(mine.transformer.state_dict()), dict(theirs.transformer.state_dict()))


def test_a_run_goes_on_to_the_bit(corpus: Path, run: Path, old: Path, tmp_path: Path) -> None:
    """Weights and moments: those of one weight are another's nowhere."""
    resumed = fit(corpus, tmp_path, **VARIANT, ckpt_path=old)
    mine, expected = load(resumed.checkpoint(3)), load(run / "step-00000003.ckpt")
    for part in ("state_dict", "optimizer_states", "lit_transformer", "global_step"):
        assert same(mine[part], expected[part]), part
    assert list(mine["state_dict"]) == list(expected["state_dict"])


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")  # of the callbacks left out
def test_a_trainer_of_a_script_goes_on_as_well(corpus: Path, run: Path, old: Path, tmp_path: Path) -> None:
    """It reads the file by itself."""
    cli = parse(arguments(corpus, tmp_path, **VARIANT), FitCLI)
    trainer = L.Trainer(
        max_steps=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    with process_state_kept():
        prepare_products()  # as the command did, which trained the run
        trainer.fit(cli.model, cli.datamodule, ckpt_path=old, weights_only=True)
    expected = load(run / "step-00000003.ckpt")
    assert same(dict(cli.model.state_dict()), expected["state_dict"])


def test_a_model_folder(run: Path, tmp_path: Path) -> None:
    translator = Translator.load(run / "step-00000002.ckpt", device="cpu")
    folder = tmp_path / "model"
    translator.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"format": 1}), encoding="utf-8")
    weights = old_weights(load_file(folder / "model.safetensors"))
    save_file({name: value.clone() for name, value in weights.items()}, folder / "model.safetensors")
    read = Translator.from_pretrained(folder, device="cpu")
    assert same(dict(read.transformer.state_dict()), dict(translator.transformer.state_dict()))


@pytest.mark.parametrize(("norm", "positions"), list(product(get_args(Norm), get_args(PositionScheme))))
def test_the_order_is_the_model_s(norm: Norm, positions: PositionScheme) -> None:
    config = TransformerConfig(d_model=8, d_ff=3, num_heads=2, num_layers=11, norm=norm, positions=positions)
    with torch.device("meta"):
        names = [name for name, _ in Transformer(config, vocab_size=7, pad_id=0).named_parameters()]
    checkpoint: dict[str, Any] = {
        "state_dict": {f"transformer.{name}": name for name in names},
        "optimizer_states": [{"state": dict(enumerate(names))}],
        "lit_transformer": {"format": 2},
    }
    to_format_2(to_format_1(checkpoint))
    assert list(checkpoint["state_dict"].items()) == [(f"transformer.{name}", name) for name in names]
    assert checkpoint["optimizer_states"] == [{"state": dict(enumerate(names))}]
    assert checkpoint["lit_transformer"] == {"format": 2}
