"""Which checkpoints a run can be resumed from."""

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from lit_transformer.checkpoints.format import MODEL_ENTRY
from lit_transformer.checkpoints.places import load_checkpoint
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.runs.compatibility import check_architecture, check_moments, check_vocabularies, leave_out_foreign
from tests.helpers.runs import SHORT, fit, load, own_lines, same


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
    for entry, tokenizers, others in (
        (shared, (one,), ((two,), (one, two))),
        (separate, (one, two), ((two, one), (one,))),
    ):
        checkpoint = {MODEL_ENTRY: {**entry, "source": "en"}}
        check_vocabularies(checkpoint, tokenizers)
        for other in others:
            with pytest.raises(UserError, match="source_vocab_size"):
                check_vocabularies(checkpoint, other)


def trained_adam(*sizes: int) -> torch.optim.Adam:
    weights = [nn.Parameter(torch.ones(size)) for size in sizes]
    optimizer = torch.optim.Adam(weights)
    sum(weight.sum() for weight in weights).backward()  # type: ignore[union-attr]
    optimizer.step()
    return optimizer


@pytest.mark.parametrize("sizes", [(3, 7), (3,), (3, 5, 7), (5, 3)])
def test_the_moments_must_be_those_of_the_weights(sizes: tuple[int, ...]) -> None:
    checkpoint = {"optimizer_states": [trained_adam(3, 5).state_dict()]}
    adam, other = trained_adam(3, 5), trained_adam(*sizes)
    check_moments(checkpoint, adam, weights_of(adam))
    with pytest.raises(UserError, match="optimizer state of other weights"):
        check_moments(checkpoint, other, weights_of(other))


def weights_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def test_weights_without_a_gradient_have_no_moments() -> None:
    saved = trained_adam(3, 5)
    del saved.state[weights_of(saved)[1]]
    checkpoint, adam = {"optimizer_states": [saved.state_dict()]}, trained_adam(3, 5)
    check_moments(checkpoint, adam, weights_of(adam)[:1])
    with pytest.raises(UserError, match="optimizer state"):
        check_moments(checkpoint, adam, weights_of(adam))


def checkpoint_of(model: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.Adam(model.parameters())
    sum(weight.sum() for weight in model.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    return {"state_dict": dict(model.state_dict()), "optimizer_states": [optimizer.state_dict()]}


def test_weights_that_this_run_does_not_have_are_left_out_with_their_moments() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 5))
    alone = checkpoint_of(model)
    both = checkpoint_of(nn.Sequential(*model, nn.BatchNorm1d(7)))
    foreign = leave_out_foreign(both, model)
    assert len(foreign) == 5
    assert all(name.startswith("2.") for name in foreign)
    assert both["state_dict"].keys() == alone["state_dict"].keys()
    left, expected = (content["optimizer_states"][0] for content in (both, alone))
    assert left["param_groups"][0]["params"] == expected["param_groups"][0]["params"]
    assert left["state"].keys() == expected["state"].keys()
    with pytest.raises(UserError, match=r"lacks 2 \(5 tensors\)"):
        leave_out_foreign(both, nn.Sequential(*model, nn.BatchNorm1d(7)))


def test_a_run_whose_callback_adds_a_module(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is translated with and resumed, with the callback and without it."""
    probe = {"trainer__callbacks": "tests.helpers.callbacks.Probe"}
    run = fit(corpus, tmp_path / "probed", **SHORT, **probe)
    plain = fit(corpus, tmp_path / "plain", **SHORT)
    assert own_lines(capsys.readouterr().err) == []
    mine, theirs = load(run.checkpoint(4)), load(plain.checkpoint(4))
    assert mine["state_dict"].keys() - theirs["state_dict"].keys() == {"probe.weight", "probe.bias"}
    model = load_checkpoint(run.checkpoint(4)).transformer
    assert same(dict(model.state_dict()), dict(load_checkpoint(plain.checkpoint(4)).transformer.state_dict()))
    assert "probe (2 tensors)" in capsys.readouterr().err
    further = SHORT | {"trainer__max_steps": 5}
    ends = [
        load(fit(corpus, tmp_path / name, **further, **changes, ckpt_path=start.checkpoint(4)).checkpoint(5))
        for name, start, changes in (("with", run, probe), ("without", run, {}), ("never", plain, {}))
    ]
    for end in ends[:2]:
        assert same({name: end["state_dict"][name] for name in ends[2]["state_dict"]}, ends[2]["state_dict"])
    assert same(ends[1]["optimizer_states"], ends[2]["optimizer_states"])
    assert "probe.weight" in ends[0]["state_dict"]


def test_a_compiled_model_is_saved_under_its_own_names(corpus: Path, tmp_path: Path) -> None:
    compiled = {"trainer__callbacks": "tests.helpers.callbacks.Compiled"}
    run = fit(corpus, tmp_path / "compiled", **SHORT, **compiled)
    names = load(run.checkpoint(4))["state_dict"].keys()
    assert {f"transformer.{name}" for name in load_checkpoint(run.folder).transformer.state_dict()} == names
    further = SHORT | {"trainer__max_steps": 5}
    for name, changes in (("again", compiled), ("plain", {})):
        assert fit(corpus, tmp_path / name, **further, **changes, ckpt_path=run.checkpoint(4)).checkpoint(5).exists()
