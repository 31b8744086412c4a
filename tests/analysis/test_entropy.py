"""Entropy of heads, with torch's own as the oracle."""

import math

import numpy as np
import torch

from lit_transformer.analysis.entropy import head_entropy, normalized_head_entropy
from tests.helpers.attentions import random_attention


def test_it_is_the_mean_of_the_rows_entropies() -> None:
    for weights_HLM in (*random_attention().cross.values(), *random_attention().decoder.values()):
        # float64, because torch clamps probabilities of float32 where it takes their logarithm.
        rows_HL = torch.distributions.Categorical(torch.from_numpy(weights_HLM).double()).entropy()
        np.testing.assert_allclose(head_entropy(weights_HLM), rows_HL.mean(dim=1).numpy(), rtol=1e-6)


def test_one_key_has_none_and_all_keys_have_most() -> None:
    one, all_ = np.eye(5, dtype=np.float32), np.full((5, 5), 0.2, dtype=np.float32)
    np.testing.assert_allclose(head_entropy(np.stack([one, all_])), [0.0, math.log(5)], rtol=1e-6)
    np.testing.assert_allclose(normalized_head_entropy(np.stack([one, all_]), "encoder"), [0.0, 1.0], rtol=1e-6)
    assert not np.signbit(head_entropy(one[None])).any()


def test_a_decoder_row_is_measured_by_what_it_may_attend_to() -> None:
    causal = np.tri(7, dtype=np.float32)
    causal /= causal.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(normalized_head_entropy(causal[None], "decoder"), [1.0], rtol=1e-6)
    # The first row has no choice and says nothing: two rows are left, one of each kind.
    mixed = np.array([[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]], dtype=np.float32)
    np.testing.assert_allclose(normalized_head_entropy(mixed[None], "decoder"), [0.5], rtol=1e-6)
    assert normalized_head_entropy(np.ones((2, 1, 1), dtype=np.float32), "decoder").tolist() == [0.0, 0.0]
