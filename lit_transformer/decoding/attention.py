"""What a model attends to, one sentence pair at a time: the weights of all heads with the pieces they belong to.

Legend: B sentences, S source pieces with EOS, T target positions, H heads.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_transformer.batch import BOS_ID
from lit_transformer.data.batching import batches_by_length
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.batches import padded, too_many
from lit_transformer.errors import UserError, enough_memory
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer

Weights = NDArray[np.float32]
BOS, EOS = "<s>", "</s>"
"""How begin and end are written among the pieces, whatever the vocabulary calls them."""


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention weights of one sentence pair, without padding; each row of weights sums to 1.

    Position t of the decoder reads `target_input[t]` and says `target_output[t]`, which is the next piece: a cross
    attention row tells where the model looked when it said `target_output[t]`.
    """

    source: list[str]
    """S pieces as SentencePiece writes them, `▁` where a word begins, then `</s>`."""
    target_input: list[str]
    """T pieces, `<s>` first."""
    target_output: list[str]
    """T pieces, `</s>` last; it is missing where learned positions have cut a translation off."""
    encoder: Mapping[int, Weights]
    """H x S x S for each chosen layer, which count from 0."""
    decoder: Mapping[int, Weights]
    """H x T x T for each chosen layer; position t looks at the input up to t."""
    cross: Mapping[int, Weights]
    """H x T x S for each chosen layer."""


def check_layers(layers: Collection[int] | None, config: TransformerConfig) -> None:
    """Raise UserError if a model has no such layer."""
    for layer in layers or ():
        if not 0 <= layer < config.num_layers:
            raise UserError(f"layer {layer} is not there: the model has layers 0 to {config.num_layers - 1}")


def look(
    transformer: Transformer,
    tokenizer: Tokenizer,
    sources: Sequence[list[int]],
    targets: Sequence[list[int]],
    *,
    layers: Collection[int] | None,
    batch_tokens: int,
) -> list[Attention]:
    """The attention of sentence pairs under teacher forcing, in their order.

    Args:
        transformer: The model, in evaluation mode.
        tokenizer: Its vocabulary.
        sources: Piece ids with EOS.
        targets: Piece ids without BOS and EOS.
        layers: The layers to keep, from 0; all when left out.
        batch_tokens: Padded pieces a side that are computed together.
    """
    config = transformer.config
    # What search has cut off at the last learned position was never read to its end.
    inputs = [[BOS_ID, *ids][: config.longest] for ids in targets]
    device = transformer.embedding.weight.device
    found: dict[int, Attention] = {}
    lengths = [max(len(source), len(target)) for source, target in zip(sources, inputs, strict=True)]
    for batch in batches_by_length(lengths, batch_tokens):
        source_BS, target_input_BT = (padded([ids[index] for index in batch]).to(device) for ids in (sources, inputs))
        remedy = f"lower the number of layers to look at or {too_many(source_BS)}"
        with torch.inference_mode(), enough_memory(remedy):
            maps = transformer.attention_maps(source_BS, target_input_BT, layers)
        for row, index in enumerate(batch):
            num_source, num_target = len(sources[index]), len(inputs[index])
            found[index] = Attention(
                source=[*tokenizer.tokens(sources[index][:-1]), EOS],
                target_input=[BOS, *tokenizer.tokens(inputs[index][1:])],
                target_output=[*tokenizer.tokens(targets[index]), EOS][:num_target],
                encoder=_cut(maps.encoder, row, num_source, num_source),
                decoder=_cut(maps.decoder, row, num_target, num_target),
                cross=_cut(maps.cross, row, num_target, num_source),
            )
    return [found[index] for index in range(len(sources))]


def _cut(maps: Mapping[int, Tensor], row: int, num_queries: int, num_keys: int) -> dict[int, Weights]:
    """One sentence without its padding; copied, because a view would keep the whole batch."""
    cut = {
        layer: weights[row, :, :num_queries, :num_keys].float().cpu().numpy().copy() for layer, weights in maps.items()
    }
    if any(np.isnan(weights).any() for weights in cut.values()):
        raise UserError(
            "the model's attention is not made of numbers: its training diverged; take an earlier checkpoint"
        )
    return cut
