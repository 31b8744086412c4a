"""Every architecture can be trained, saved, resumed, averaged and translated with."""

import re
import shutil
from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest

from lit_transformer import Translator, average
from lit_transformer.checkpoints.places import load_checkpoint
from lit_transformer.model.config import Norm, PositionScheme
from tests.helpers.runs import fit

SIZES: dict[str, Any] = {
    "model__transformer__d_model": 16,
    "model__transformer__d_ff": 8,
    "model__transformer__num_heads": 2,
    "model__transformer__num_layers": 3,
    "trainer__val_check_interval": 2,
    "checkpoints__every_n_train_steps": 1,
}


@pytest.mark.parametrize(("norm", "positions"), [*product(get_args(Norm), get_args(PositionScheme))])
def test_saved_resumed_averaged_and_translated_with(
    norm: Norm, positions: PositionScheme, corpus: Path, tmp_path: Path
) -> None:
    changes = SIZES | {"model__transformer__norm": norm, "model__transformer__positions": positions}
    run = fit(corpus, tmp_path, **changes, trainer__max_steps=2)
    resumed = fit(corpus, tmp_path, **changes, trainer__max_steps=3, ckpt_path="auto")
    assert "resuming from" in resumed.output
    trained = load_checkpoint(run.checkpoint(3))
    assert (trained.transformer.config.norm, trained.transformer.config.positions) == (norm, positions)
    assert not any(part.is_meta for part in (*trained.transformer.parameters(), *trained.transformer.buffers()))
    average.main(["--run", str(tmp_path), "--last", "3"])
    [averaged] = tmp_path.rglob("average-3*")
    assert len(Translator.load(averaged, device="cpu").translate(["The cat sleeps."])) == 1


def test_long_validation_sentences_do_not_end_a_run_with_learned_positions(corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "corpus")
    for language, word in (("en", "cat "), ("de", "Katze ")):
        with (tmp_path / "corpus" / f"valid.{language}").open("a", encoding="utf-8") as file:
            file.write(word * 300 + "\n")
    changes = SIZES | {"model__transformer__positions": "learned", "model__transformer__max_positions": 64}
    run = fit(tmp_path / "corpus", tmp_path / "runs", **changes, trainer__max_steps=2)
    [line] = [line for line in run.output.splitlines() if "max_positions 64" in line]
    assert re.search(r"\b1 validation sentence", line)
    assert run.output.index(line) < run.output.index("step       2")
