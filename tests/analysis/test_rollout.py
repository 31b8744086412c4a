"""Rollout beside the sum over all paths that it stands for, written out one by one."""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from lit_transformer.analysis.rollout import rollout
from lit_transformer.errors import UserError
from tests.helpers.attentions import one_stack, random_attention


def encoder_paths(layers: list[np.ndarray], end: int, begin: int) -> float:
    """Over all ways from `end` down to `begin`: half of each step stays, half goes to what the mean head attends to."""
    total = 0.0
    for between in product(range(len(layers[0][0])), repeat=len(layers) - 1):
        way = [end, *between, begin]
        share = 1.0
        for layer, here, there in zip(reversed(layers), way, way[1:], strict=False):
            share *= 0.5 * (here == there) + 0.5 * layer[:, here, there].mean()
        total += share
    return total


def test_the_encoder_sums_over_paths() -> None:
    attention = random_attention(num_layers=3)
    layers = list(attention.encoder.values())
    shares_SS = rollout(attention).encoder_SS
    for end, begin in product(range(len(attention.source)), repeat=2):
        assert shares_SS[end, begin] == pytest.approx(encoder_paths(layers, end, begin), rel=1e-5)


def test_the_decoder_is_one_more_network_whose_sources_are_fixed() -> None:
    """The encoder's rule on S + T positions: in every sub-layer the sources attend to themselves only."""
    attention = random_attention(num_layers=3)
    num_source, num_target = len(attention.source), len(attention.target_input)
    memory = rollout(attention).encoder_SS
    state = np.block(
        [[memory, np.zeros((num_source, num_target))], [np.zeros((num_target, num_source)), np.eye(num_target)]]
    )
    for layer in range(3):
        for attended, maps in ((num_source, attention.decoder), (0, attention.cross)):
            step = np.eye(num_source + num_target)
            weights = maps[layer].mean(axis=0)
            step[num_source:, num_source:] *= 0.5
            step[num_source:, attended : attended + weights.shape[1]] += 0.5 * weights
            state = step @ state
    shares = rollout(attention)
    np.testing.assert_allclose(shares.cross_TS, state[num_source:, :num_source], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(shares.decoder_TT, state[num_source:, num_source:], rtol=1e-5, atol=1e-7)


def test_one_stack_is_the_encoder_rule() -> None:
    bert, gpt = one_stack("encoder", num_layers=3), one_stack("decoder", num_layers=3)
    np.testing.assert_allclose(rollout(bert).encoder_SS.sum(axis=1), 1.0, rtol=1e-5)
    shares_TT = rollout(gpt).decoder_TT
    np.testing.assert_allclose(shares_TT.sum(axis=1), 1.0, rtol=1e-5)
    for end, begin in product(range(len(gpt.target_input)), repeat=2):
        assert shares_TT[end, begin] == pytest.approx(encoder_paths(list(gpt.decoder.values()), end, begin), rel=1e-5)


def test_shares_sum_to_one_and_none_comes_from_the_future() -> None:
    shares = rollout(random_attention(num_layers=4))
    np.testing.assert_allclose(shares.encoder_SS.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(shares.decoder_TT.sum(axis=1) + shares.cross_TS.sum(axis=1), 1.0, rtol=1e-5)
    assert not np.triu(shares.decoder_TT, k=1).any()


def test_layers_must_not_be_missing() -> None:
    attention = random_attention(num_layers=3)
    for kept in ([1, 2], [0, 2]):
        some: dict[str, Any] = {
            kind: {n: getattr(attention, kind)[n] for n in kept} for kind in ("encoder", "decoder", "cross")
        }
        with pytest.raises(UserError, match="every layer from the first"):
            rollout(replace(attention, **some))
