"""Embeddings and the projection to the vocabulary (section 3.4).

Legend: D d_model, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_transformer.model.config import TransformerConfig


class Embedding(nn.Embedding):
    """Embeddings of tokens, times sqrt(d_model) unless the configuration says otherwise.

    Args:
        vocab_size: Tokens in the vocabulary.
        config: The architecture.
    """

    def __init__(self, vocab_size: int, config: TransformerConfig) -> None:
        super().__init__(vocab_size, config.d_model)
        self.scale = config.d_model**0.5 if config.scale_embedding else 1.0
        nn.init.normal_(self.weight, std=config.d_model**-0.5)

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * self.scale


class Output(nn.Module):
    """The projection of states to scores of the vocabulary, through the embedding matrix or through one of its own.

    With the paper's settings it has no parameters.

    Args:
        vocab_size: Tokens in the vocabulary.
        config: The architecture.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, vocab_size: int, config: TransformerConfig) -> None:
        super().__init__()
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)
        if not config.tied_output:
            self.weight = nn.Parameter(torch.empty(vocab_size, config.d_model))
            nn.init.normal_(self.weight, std=config.d_model**-0.5)
        if config.output_bias:
            self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, states: Tensor, embedding_VD: Tensor) -> Tensor:
        """The scores of the vocabulary at each position.

        Args:
            states: The last dimension is D.
            embedding_VD: The embedding matrix.
        """
        return F.linear(states, embedding_VD if self.weight is None else self.weight, self.bias)

    def factors(self, states: Tensor, embedding_VD: Tensor) -> tuple[Tensor, Tensor]:
        """States and a matrix whose product is the scores, for losses that never hold all scores.

        A bias is one more column of the matrix, which meets a 1 in every state.
        """
        weight_VD = embedding_VD if self.weight is None else self.weight
        if self.bias is None:
            return states, weight_VD
        return F.pad(states, (0, 1), value=1.0), torch.cat([weight_VD, self.bias[:, None]], dim=1)
