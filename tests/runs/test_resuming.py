"""What a run may be resumed from, and where its curves go on."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn

from lit_transformer.checkpoints.format import FORMAT, MODEL_ENTRY
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.runs.resuming import Resuming, check_architecture, check_moments, check_vocabularies, continued_run


def test_the_architecture_must_be_the_same_except_for_dropout() -> None:
    config = TransformerConfig(d_model=6, d_ff=7, num_heads=3, num_layers=2, dropout=0.1)
    checkpoint = {MODEL_ENTRY: {"transformer": asdict(config)}}
    check_architecture(checkpoint, config)
    check_architecture(checkpoint, replace(config, dropout=0.3))
    with pytest.raises(UserError, match=r"d_ff 7, .*positions sinusoidal$"):
        check_architecture(checkpoint, replace(config, d_ff=11, positions="none"))


def test_the_vocabularies_must_be_the_same() -> None:
    one, two = (cast(Tokenizer, SimpleNamespace(model_bytes=name)) for name in (b"one", b"two"))
    shared, separate = {"tokenizer": b"one"}, {"tokenizer": b"one", "source_tokenizer": b"two"}
    for entry, vocabularies, others in (
        (shared, Vocabularies.shared(one), (Vocabularies.shared(two), Vocabularies(two, one))),
        (separate, Vocabularies(two, one), (Vocabularies(one, two), Vocabularies.shared(one))),
    ):
        checkpoint = {MODEL_ENTRY: {**entry, "source": "en"}}
        check_vocabularies(checkpoint, vocabularies)
        for other in others:
            with pytest.raises(UserError, match="source_vocab_size"):
                check_vocabularies(checkpoint, other)


class ReadsItself(SingleDeviceStrategy):
    """Like FSDP, it reads a checkpoint's file by itself."""

    @property
    def restore_checkpoint_after_setup(self) -> bool:
        return True


def test_a_strategy_that_reads_the_file_itself_needs_the_newest_format(tmp_path: Path) -> None:
    trainer = L.Trainer(strategy=ReadsItself("cpu"), logger=False, enable_checkpointing=False, barebones=True)
    for written in (1, FORMAT):
        path = tmp_path / f"format-{written}.ckpt"
        entry = {"format": written}
        torch.save({"state_dict": {}, "optimizer_states": [], MODEL_ENTRY: entry}, path)
    assert Resuming().read(trainer, str(path)) == path
    with pytest.raises(UserError, match=r"format-1\.ckpt has format 1"):
        Resuming().read(trainer, str(tmp_path / "format-1.ckpt"))


def trained_adam(*sizes: int) -> torch.optim.Adam:
    weights = [nn.Parameter(torch.ones(size)) for size in sizes]
    optimizer = torch.optim.Adam(weights)
    sum(weight.sum() for weight in weights).backward()  # type: ignore[union-attr]
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("sizes", [(3, 7), (3,), (3, 5, 7), (5, 3)])
def test_the_moments_must_be_those_of_the_weights(sizes: tuple[int, ...]) -> None:
    checkpoint = {"optimizer_states": [trained_adam(3, 5).state_dict()]}
    check_moments(checkpoint, trained_adam(3, 5))
    with pytest.raises(UserError, match="optimizer state of other weights"):
        check_moments(checkpoint, trained_adam(*sizes))


def test_only_a_run_that_was_searched_for_is_continued() -> None:
    path = Path("runs/version_3/checkpoints/step-00000017.ckpt")
    for searched in ("auto", "last"):
        assert continued_run(path, searched) == (Path("runs/version_3"), 18)
    assert continued_run(path, str(path)) is None
    assert continued_run(Path("elsewhere/step-00000017.ckpt"), "last") is None
    assert continued_run(None, "auto") is None
