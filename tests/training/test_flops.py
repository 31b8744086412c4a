"""FLOPs are those of torch's own counter."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lit_transformer.batch import EOS_ID, make_batch, make_token_batch
from lit_transformer.model.config import TransformerConfig
from lit_transformer.training.flops import encoder_decoder_flops, stack_flops
from lit_transformer.training.gpt import LitGPT
from lit_transformer.training.translation import LitTransformer

VOCAB_SIZE = 37
CONFIG = TransformerConfig(d_model=16, d_ff=40, num_heads=2, d_k=6, d_v=10, num_layers=3, dropout=0.1)
ROWS, SOURCE_LENGTH, TARGET_LENGTH = 4, 9, 12


def test_flops_of_an_encoder_decoder() -> None:
    """Torch counts attention to the future, too, which is masked: our count of it is doubled for the comparison."""
    module = LitTransformer(CONFIG, vocab_size=VOCAB_SIZE)
    batch = make_batch(np.full((ROWS, SOURCE_LENGTH), EOS_ID), np.full((ROWS, TARGET_LENGTH), EOS_ID))
    with FlopCounterMode(display=False) as counter:
        module.loss_sums(batch).smoothed.backward()
    ours = module.training_flops(
        source_tokens=ROWS * SOURCE_LENGTH,
        target_tokens=ROWS * TARGET_LENGTH,
        lengths=(SOURCE_LENGTH, 2 * TARGET_LENGTH),
    )
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("activation", ["relu", "gated_gelu"])
def test_flops_of_one_stack(activation: str) -> None:
    config = TransformerConfig(**{**vars(CONFIG), "activation": activation})
    module = LitGPT(config, vocab_size=VOCAB_SIZE)
    ids = np.full((ROWS, SOURCE_LENGTH), EOS_ID)
    with FlopCounterMode(display=False) as counter:
        module.loss_sums(make_token_batch(ids, ids)).smoothed.backward()
    tokens = ROWS * SOURCE_LENGTH
    ours = module.training_flops(source_tokens=tokens, target_tokens=tokens, lengths=(2 * SOURCE_LENGTH, 0))
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert all(weight.grad is not None and bool(torch.isfinite(weight.grad).all()) for weight in module.parameters())


@pytest.mark.parametrize("causal", [True, False])
def test_a_window_reaches_to_both_sides_unless_attention_is_causal(causal: bool) -> None:
    window = 5
    windowed = replace(CONFIG, window=window)
    flops = partial(stack_flops, outputs=VOCAB_SIZE, read_tokens=9, predicted_tokens=9, causal=causal)
    same_length = 2 * window if causal else 2 * window - 1
    assert flops(windowed, length=1000) == flops(CONFIG, length=same_length)
    assert flops(windowed, length=3) == flops(CONFIG, length=3)


def test_a_window_and_a_gate_count_in_an_encoder_decoder() -> None:
    flops = partial(
        encoder_decoder_flops, vocab_size=VOCAB_SIZE, source_tokens=9, target_tokens=9, lengths=(1000, 1000)
    )
    assert flops(replace(CONFIG, window=5)) < flops(CONFIG) < flops(replace(CONFIG, activation="gated_gelu"))
