"""How widely a head looks: the entropy of its attention weights.

Legend: H heads, L query length, M key length.
"""

import numpy as np
from numpy.typing import NDArray

from lit_transformer.analysis.maps import Kind
from lit_transformer.decoding.attention import Weights

Entropies = NDArray[np.float64]


def head_entropy(weights_HLM: Weights) -> Entropies:
    """Entropy of each head in nats, the mean of its rows: 0 where it looks at one key, ln(M) where evenly at all M.

    Rows that may look at fewer keys can have less: compare kinds and lengths by `normalized_head_entropy`.
    """
    return _row_entropy(weights_HLM).mean(axis=1)


def normalized_head_entropy(weights_HLM: Weights, kind: Kind) -> Entropies:
    """Entropy of each head as a share of the largest possible: 0 is one key, 1 is evenly all keys that are allowed.

    Each row is divided by the logarithm of the keys that it may look at, before the mean is taken: all M of them, and
    in the decoder's self-attention t + 1 at position t. Rows with one key have no choice and are left out; a head with
    no other rows has 0.
    """
    _, num_queries, num_keys = weights_HLM.shape
    allowed_L = np.arange(1, num_queries + 1) if kind == "decoder" else np.full(num_queries, num_keys)
    free_L = allowed_L > 1
    if not free_L.any():
        return np.zeros(len(weights_HLM))
    return (_row_entropy(weights_HLM)[:, free_L] / np.log(allowed_L[free_L])).mean(axis=1)


def _row_entropy(weights_HLM: Weights) -> Entropies:
    weights_HLM = np.asarray(weights_HLM, dtype=np.float64)
    # 0 ln 0 is 0.
    logs_HLM = np.log(weights_HLM, out=np.zeros_like(weights_HLM), where=weights_HLM > 0.0)
    entropy_HL: Entropies = -(weights_HLM * logs_HLM).sum(axis=-1)
    return entropy_HL + 0.0  # no negative zeros
