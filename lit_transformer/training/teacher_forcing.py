"""Teacher forcing (section 3.1): from a batch, padded or packed, to decoder states.

Legend: B batch, S source length, T target length.
"""

import torch
from torch import Tensor

from lit_transformer.batch import Batch
from lit_transformer.model.packing import PackedRow
from lit_transformer.model.transformer import Transformer


def decoder_states(transformer: Transformer, batch: Batch) -> Tensor:
    """Return the decoder's state at every target position, B x T x D."""
    if batch.packing is None:
        # A compiled graph always has a mask of the padding. Batches without padding would need a graph of their own.
        padded = torch.compiler.is_compiling() or batch.num_source_tokens < batch.source_BS.numel()
        return transformer.decode(batch.target_input_BT, transformer.encode(batch.source_BS, padded=padded))
    source, target, longest = batch.packing
    rows = (PackedRow.make(*side, longest=longest) for side in (source, target))
    return transformer.packed_states(batch.source_BS, batch.target_input_BT, *rows)
