"""How widely a head attends: the entropy of its attention weights.

Legend: H heads, L query length, M key length.
"""

import numpy as np
from numpy.typing import NDArray

from lit_transformer.analysis.maps import Kind
from lit_transformer.decoding.attention import Weights

Entropies = NDArray[np.float64]


def head_entropy(weights_HLM: Weights) -> Entropies:
    """Entropy of each head in nats, the mean over its rows.

    It is 0 if each query attends to one key, and ln(M) if each attends evenly to all M. A query that may attend to
    fewer keys cannot reach ln(M), so use `normalized_head_entropy` to compare kinds and lengths.
    """
    return _row_entropy(weights_HLM).mean(axis=1)


def normalized_head_entropy(weights_HLM: Weights, kind: Kind) -> Entropies:
    """Entropy of each head as a share of the largest possible, the mean over its rows.

    It is 0 if each query attends to one key, and 1 if each attends evenly to all keys that it may attend to. The
    largest entropy of a row is the logarithm of the number of these keys: M, but t + 1 at position t of the decoder's
    self-attention. Rows with one key are left out, because they have no choice. A head without other rows has 0.
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
