"""The prototypes that `experiments/measure/gpu` times compute what the package computes."""

from collections.abc import Iterator

import pytest
import torch

from experiments.measure.gpu.batches import CONFIGS, batches
from experiments.measure.gpu.decoding import model_of, num_equal_to_search
from experiments.measure.gpu.models import Step
from experiments.measure.gpu.timing import DEVICE

pytestmark = pytest.mark.skipif(DEVICE != "cpu", reason="on a GPU the models have their full size")


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    """The measurements set it for the whole process, as commands do."""
    former = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(former)


def test_packed_rows_have_the_loss_of_padded_ones() -> None:
    batch, losses = batches()[0], []
    for path in ("packedeager", "ours"):
        step = Step(CONFIGS["base"], path)
        step.model.eval()
        losses.append(step.loss(*step.inputs(batch)))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0.0)


def test_the_static_decoder_finds_what_the_search_finds() -> None:
    assert num_equal_to_search(model_of(torch.float32)) == 5
