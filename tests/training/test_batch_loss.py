"""The compiled loss is the eager one, in one graph for batches of all sizes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_transformer.batch import EOS_ID, PAD_ID, Batch, IntArray, make_batch
from lit_transformer.data.packing import PackedPlan
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.runs.private_names import num_compiled_graphs
from lit_transformer.training.batch_loss import two_of_each
from lit_transformer.training.translation import LitTransformer

VOCAB_SIZE = 29
SIZES = [(5, 7, 11), (3, 8, 6), (2, 13, 13), (1, 7, 9), (4, 1, 3), (4, 3, 1), (1, 1, 1)]
"""Rows, source positions and target positions."""


@pytest.fixture
def traced() -> Iterator[None]:
    """Graphs are traced, and run without the compiler's kernels, which take half a minute."""
    torch.compiler.reset()
    with torch.compiler.set_stance("default", force_backend="eager"):
        yield
    torch.compiler.reset()


def make_module(*, dropout: float = 0.0, **settings: Any) -> LitTransformer:
    """The same weights at every call with the same vocabularies."""
    torch.manual_seed(0)
    config = TransformerConfig(d_model=10, d_ff=14, num_heads=2, num_layers=1, dropout=dropout)
    return LitTransformer(config, vocab_size=VOCAB_SIZE, **settings)


def random_batch(rows: int, source_length: int, target_length: int) -> Batch:
    """Only the first row has no padding."""

    def side(length: int) -> Tensor:
        ids = torch.randint(EOS_ID + 1, 19, (rows, length))
        for row, end in enumerate([length, *torch.randint(1, length + 1, (rows - 1,)).tolist()]):
            ids[row, end - 1], ids[row, end:] = EOS_ID, PAD_ID
        return ids

    return make_batch(side(source_length).numpy(), side(target_length).numpy())


def padded_ids(lengths: IntArray) -> IntArray:
    place = np.arange(lengths.max())
    ids = np.random.default_rng(1).integers(EOS_ID + 1, 19, (len(lengths), len(place)))
    ids[place == lengths[:, None] - 1], ids[place >= lengths[:, None]] = EOS_ID, PAD_ID
    return ids


def loss_and_gradients(module: LitTransformer, batch: Batch) -> tuple[Tensor, ...]:
    sums = module.loss_sums(batch)
    return (*sums, *torch.autograd.grad(sums.smoothed, list(module.parameters())))


def assert_same(mine: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> None:
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.detach().abs().max()))


@pytest.mark.usefixtures("traced")
def test_one_graph_has_the_loss_and_gradients_of_all_sizes() -> None:
    batches, former = [random_batch(*size) for size in SIZES], num_compiled_graphs()
    for source_vocab_size, checkpointing in ((None, False), (19, True)):
        settings: dict[str, Any] = {"source_vocab_size": source_vocab_size, "activation_checkpointing": checkpointing}
        module = make_module(compile=True, **settings)
        for batch in batches:
            assert_same(loss_and_gradients(module, batch), loss_and_gradients(make_module(**settings), batch))
        assert module.state_dict().keys() == make_module(**settings).state_dict().keys()
    assert num_compiled_graphs() - former == 2


@pytest.mark.usefixtures("traced")
def test_packed_rows_are_compiled_for_their_size() -> None:
    """The numbers of sentences are open from the second batch on."""
    lengths = np.random.default_rng(0).integers(2, 20, (2, 90))
    plan, former = PackedPlan(lengths[0], lengths[1], 128, 1), num_compiled_graphs()
    module = make_module(compile=True)
    for step in range(5):
        rows = plan.step_rows(step)
        padded = make_batch(*(padded_ids(side[rows]) for side in lengths))
        expected = loss_and_gradients(make_module(), padded)
        assert_same(loss_and_gradients(module, plan.lay_out(padded, 1)), expected)
    assert num_compiled_graphs() - former == 2


def test_what_the_compiler_refuses_is_not_run_eagerly_in_silence(capsys: pytest.CaptureFixture[str]) -> None:
    module, expected = make_module(compile=True), make_module()
    with torch._dynamo.config.patch(recompile_limit=0):
        for batch in (random_batch(5, 7, 11), random_batch(3, 8, 6)):
            assert_same(loss_and_gradients(module, batch), loss_and_gradients(expected, batch))
    assert capsys.readouterr().err.count("warning: ") == 1


@pytest.mark.usefixtures("traced")
def test_dropout_follows_the_seed_and_validation_is_eager() -> None:
    module, batch, former = make_module(compile=True, dropout=0.4), random_batch(5, 7, 11), num_compiled_graphs()
    assert_same(loss_and_gradients(module.eval(), batch), loss_and_gradients(make_module(), batch))
    assert num_compiled_graphs() == former
    module.train()
    losses = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        losses.append(module.loss_sums(batch).smoothed.item())
    assert losses[0] == losses[2] != losses[1]
    assert num_compiled_graphs() == former + 1


def test_a_compiler_that_does_not_work_is_one_line() -> None:
    line = r"^compile is true.*none of that name.*\bset compile to false$"
    with (
        torch.compiler.set_stance("default", force_backend="none of that name"),
        pytest.raises(UserError, match=line),
    ):
        make_module(compile=True).loss_sums(random_batch(2, 3, 4))


@pytest.mark.parametrize("size", SIZES)
def test_what_fills_a_batch_up_does_not_change_its_loss(size: tuple[int, int, int]) -> None:
    module, batch = make_module(), random_batch(*size)
    filled = two_of_each(batch)
    assert (filled is batch) == (1 not in size)
    assert filled.target_output_BT.shape == filled.target_input_BT.shape
    assert min(*filled.source_BS.shape, *filled.target_output_BT.shape) > 1
    assert filled.source_BS[:, 0].ne(PAD_ID).all()
    assert_same(loss_and_gradients(module, filled), loss_and_gradients(module, batch))


@pytest.mark.slow
def test_the_compiler_s_kernels_compute_the_same() -> None:
    """By Inductor, the default, if it works here."""
    module, expected = make_module(compile=True), make_module()
    for size in SIZES:
        batch = random_batch(*size)
        try:
            mine = loss_and_gradients(module, batch)
        except UserError as error:
            pytest.skip(f"no compiler works here: {error}")
        assert_same(mine, loss_and_gradients(expected, batch))
