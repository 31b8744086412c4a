"""The loss of an encoder-decoder on a batch, eager or as a compiled graph. It knows neither text nor runs.

Legend: B batch, S source length, T target length, D d_model, P target positions (batch x length).
"""

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lit_transformer.batch import EOS_ID, PAD_ID, Batch
from lit_transformer.errors import UserError
from lit_transformer.model.transformer import Transformer
from lit_transformer.notes import print_warning
from lit_transformer.training.loss import LossSums, smoothed_cross_entropy, whole_cross_entropy
from lit_transformer.training.teacher_forcing import decoder_states

COMPILER = ("torch._dynamo", "torch._inductor")
"""The packages of PyTorch's compiler, which define its exceptions."""


class BatchLoss:
    """Computes the loss of micro-batches. If it compiles, it does so in training only.

    A compiled graph holds forward pass and loss, for batches of all sizes. It holds all logits of a micro-batch, and
    its dropout draws other random numbers than eager code.

    Args:
        compiles: Whether forward pass and loss of training are compiled.
    """

    def __init__(self, *, compiles: bool) -> None:
        self.compiles = compiles

    def loss_sums(self, transformer: Transformer, batch: Batch, *, epsilon: float) -> LossSums:
        """Return the losses of a micro-batch, summed over its target tokens.

        Args:
            transformer: The model, in training mode or not.
            batch: The micro-batch.
            epsilon: Mass of label smoothing.

        Raises:
            UserError: The compiler does not work on this machine.
        """
        if self.compiles and transformer.training:
            try:
                compiled = _compiled(packed=batch.packing is not None)
                return compiled(transformer, two_of_each(batch), whole_cross_entropy, epsilon)
            except Exception as error:
                if not type(error).__module__.startswith(COMPILER):
                    raise
                if "RecompileLimit" not in type(error).__name__:
                    raise UserError(
                        f"compile is true, and PyTorch cannot compile the model ({str(error).splitlines()[0]}): "
                        "install a C++ compiler, and Triton for a GPU, or set compile to false"
                    ) from error
                self.compiles = False
                print_warning(
                    "the rest of the training is not compiled, because this process has reached PyTorch's limit of "
                    "graphs (torch.compiler.reset() forgets those of models that are trained already)"
                )
        return _loss_sums(transformer, batch, smoothed_cross_entropy, epsilon)


def two_of_each(batch: Batch) -> Batch:
    """Return a padded batch with at least two rows, source positions and target positions, without changing its loss.

    The compiler makes a graph of its own for each size of 1. A packed batch stays as it is.
    """
    (rows, source_length), target_length = batch.source_BS.shape, batch.target_output_BT.shape[1]
    if batch.packing is not None or min(rows, source_length, target_length) > 1:
        return batch

    def fill(ids: Tensor, row_id: int) -> Tensor:
        wide = F.pad(ids, (0, max(0, 2 - ids.shape[1])), value=PAD_ID)
        return F.pad(wide, (0, 0, 0, max(0, 2 - len(ids))), value=row_id)

    return batch._replace(
        source_BS=fill(batch.source_BS, EOS_ID),  # no row may be padding alone
        target_input_BT=fill(batch.target_input_BT, EOS_ID),
        target_output_BT=fill(batch.target_output_BT, PAD_ID),
    )


@cache
def _compiled(*, packed: bool) -> Callable[..., LossSums]:
    """The compiler's form of `_loss_sums`, for all models. With `fullgraph`, nothing stays outside of the graph.

    Padded batches have all sizes. Packed ones have rows of one size, and numbers of sentences that differ.
    """
    return torch.compile(_loss_sums, fullgraph=True, dynamic=None if packed else True)


def _loss_sums(
    transformer: Transformer, batch: Batch, cross_entropy: Callable[..., LossSums], epsilon: float
) -> LossSums:
    states_PD, target_P = decoder_states(transformer, batch).flatten(0, 1), batch.target_output_BT.flatten()
    factors = transformer.output.factors(states_PD, transformer.embedding.weight)
    return cross_entropy(*factors, target_P, pad_id=PAD_ID, epsilon=epsilon)
