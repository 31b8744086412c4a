"""The attention weights of all heads, one sentence pair at a time, with the tokens that they belong to.

Legend: B batch, S source length, T target length.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_transformer.batch import BOS_ID, EOS_ID, pad
from lit_transformer.data.batching import batches_by_length
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.data.vocabularies import Vocabularies
from lit_transformer.decoding.candidates import most_source_tokens
from lit_transformer.decoding.devices import enough_memory, inference, memory_remedy
from lit_transformer.decoding.hypotheses import Hypothesis
from lit_transformer.decoding.remarks import Remarks
from lit_transformer.decoding.transformer_search import TransformerSearch
from lit_transformer.errors import UserError
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.transformer import Transformer
from lit_transformer.notes import counted
from lit_transformer.search_settings import SearchSettings

Weights = NDArray[np.float32]
BOS, EOS = "<s>", "</s>"
"""How the first and the last token are written, whatever the vocabulary calls them."""


@dataclass(frozen=True, eq=False)
class Attention:
    """The attention weights of one sentence pair, without padding. Each row of weights sums to 1.

    Position t of the decoder reads the token `target_input[t]` and predicts the next one, `target_output[t]`. So row t
    of the cross-attention shows what the model attends to when it predicts `target_output[t]`.

    Layers count from 0.
    """

    source: list[str]
    """S tokens as SentencePiece writes them, `▁` where a word begins, then `</s>`. `<unk:😀>` is an unknown token."""
    target_input: list[str]
    """T tokens, `<s>` first."""
    target_output: list[str]
    """T tokens, `</s>` last. It is missing if the translation was cut at the length limit."""
    encoder: Mapping[int, Weights]
    """Heads x S x S for each chosen layer."""
    decoder: Mapping[int, Weights]
    """Heads x T x T for each chosen layer. Position t attends to the input up to t."""
    cross: Mapping[int, Weights]
    """Heads x T x S for each chosen layer."""


def check_layers(layers: Collection[int] | None, config: TransformerConfig) -> None:
    """Raise UserError if the model does not have all of these layers."""
    for layer in layers or ():
        if not 0 <= layer < config.num_layers:
            raise UserError(f"layer {layer} does not exist: the model has layers 0 to {config.num_layers - 1}")


def record_attention(
    transformer: Transformer,
    vocabularies: Vocabularies,
    texts: Sequence[str],
    targets: Sequence[str] | None,
    settings: SearchSettings,
    *,
    layers: Collection[int] | None,
    batch_tokens: int,
    first_line: int,
) -> list[Attention]:
    """Record the attention weights of sentence pairs (`Translator.attentions`).

    Args:
        transformer: The model.
        vocabularies: Its vocabularies.
        texts: The sources.
        targets: The targets, or None for the model's own translations.
        settings: How to search for these.
        layers: The layers to keep, counted from 0, or None for all.
        batch_tokens: Padded tokens per side of a batch.
        first_line: The line number of the first text.

    Returns:
        One `Attention` per text, in the same order.

    Raises:
        UserError: As `Translator.attentions`.
    """
    check_layers(layers, transformer.config)
    longest = most_source_tokens(transformer.config)
    sources = [[*ids, EOS_ID] for ids in _encode(texts, vocabularies.source, longest, first_line)]
    if targets is None:
        target_ids = _own_translations(transformer, vocabularies, texts, sources, settings, batch_tokens, first_line)
    elif len(targets) != len(texts):
        numbers = f"{counted(len(texts), 'text')} for {counted(len(targets), 'target')}"
        raise UserError(f"{numbers}: give one target for each text, in the same order")
    else:
        target_ids = [[*ids, EOS_ID] for ids in _encode(targets, vocabularies.target, longest, first_line)]
    attentions = compute_attention(
        transformer, vocabularies, sources, target_ids, layers=layers, batch_tokens=batch_tokens
    )
    return [
        # The model's own translation has no unknown tokens.
        name_unknown(attention, text, target, vocabularies)
        for attention, text, target in zip(attentions, texts, targets or texts, strict=True)
    ]


def _encode(texts: Sequence[str], tokenizer: Tokenizer, longest: int, first_line: int) -> list[list[int]]:
    encoded = tokenizer.encode(texts)
    for number, ids in enumerate(encoded, start=first_line):
        if len(ids) >= longest:
            raise UserError(
                f"line {number} has {len(ids):,} tokens, but attention is recorded for at most {longest - 1:,}: cut it "
                "into sentences"
            )
    return encoded


def _own_translations(
    transformer: Transformer,
    vocabularies: Vocabularies,
    texts: Sequence[str],
    sources: Sequence[list[int]],
    settings: SearchSettings,
    batch_tokens: int,
    first_line: int,
) -> list[list[int]]:
    """The tokens of the model's own best translations, with EOS unless they were cut."""
    has_known = vocabularies.source.has_known
    known = [ids for ids in sources if has_known(ids)]
    found = iter(TransformerSearch(transformer, batch_tokens).search(known, settings))
    best = [next(found)[0] if has_known(ids) else Hypothesis([], 0.0, [0.0]) for ids in sources]
    translations = vocabularies.target.decode([each.tokens for each in best])
    remarks = Remarks(transformer.config, settings)
    for number, (text, translation, each) in enumerate(zip(texts, translations, best, strict=True), start=first_line):
        remarks.add_translation(number, text, translation, finished=each.finished)
    remarks.print()
    return [[*each.tokens, EOS_ID] if each.finished else each.tokens for each in best]


def compute_attention(
    transformer: Transformer,
    vocabularies: Vocabularies,
    sources: Sequence[list[int]],
    targets: Sequence[list[int]],
    *,
    layers: Collection[int] | None,
    batch_tokens: int,
) -> list[Attention]:
    """Compute the attention weights of sentence pairs under teacher forcing.

    Args:
        transformer: The model. Dropout is off during the computation.
        vocabularies: Its vocabularies.
        sources: Source ids with EOS.
        targets: Target ids without BOS. They end with EOS unless they were cut.
        layers: The layers to keep, counted from 0, or None for all.
        batch_tokens: Padded tokens per side of a batch.

    Returns:
        One `Attention` per pair, in the same order.

    Raises:
        UserError: If the memory does not suffice, or the weights are not numbers.
    """
    inputs = [[BOS_ID, *ids[:-1]] for ids in targets]
    device = transformer.embedding.weight.device
    found: dict[int, Attention] = {}
    lengths = [max(len(source), len(target)) for source, target in zip(sources, inputs, strict=True)]
    for batch in batches_by_length(lengths, batch_tokens):
        source_BS, target_input_BT = (
            torch.from_numpy(pad([ids[index] for index in batch])).to(device) for ids in (sources, inputs)
        )
        remedy = memory_remedy(source_BS, lower="the number of layers")
        with inference(transformer), enough_memory(remedy):
            maps = transformer.attention_maps(source_BS, target_input_BT, layers)
        for row, index in enumerate(batch):
            num_source, num_target = len(sources[index]), len(inputs[index])
            found[index] = Attention(
                source=[*vocabularies.source.tokens(sources[index][:-1]), EOS],
                target_input=[BOS, *vocabularies.target.tokens(inputs[index][1:])],
                target_output=_output_tokens(targets[index], vocabularies.target),
                encoder=cut_maps(maps.encoder, row, num_source, num_source),
                decoder=cut_maps(maps.decoder, row, num_target, num_target),
                cross=cut_maps(maps.cross, row, num_target, num_source),
            )
    return [found[index] for index in range(len(sources))]


def name_unknown(attention: Attention, source: str, target: str, vocabularies: Vocabularies) -> Attention:
    """The same attention with the characters of unknown tokens.

    Args:
        attention: The weights of a sentence pair.
        source: The source.
        target: The target.
        vocabularies: The vocabularies that split both into tokens.
    """
    return replace(
        attention,
        source=vocabularies.source.name_unknown(attention.source, source),
        target_input=vocabularies.target.name_unknown(attention.target_input, target),
        target_output=vocabularies.target.name_unknown(attention.target_output, target),
    )


def _output_tokens(ids: list[int], tokenizer: Tokenizer) -> list[str]:
    return [*tokenizer.tokens(ids[:-1]), EOS] if ids[-1] == EOS_ID else tokenizer.tokens(ids)


def cut_maps(maps: Mapping[int, Tensor], row: int, num_queries: int, num_keys: int) -> dict[int, Weights]:
    """The weights of one sentence without padding, copied because a view would keep the whole batch in memory."""
    cut = {
        layer: weights[row, :, :num_queries, :num_keys].float().cpu().numpy().copy() for layer, weights in maps.items()
    }
    if any(np.isnan(weights).any() for weights in cut.values()):
        raise UserError(
            "the model's attention weights are not numbers: its training diverged; take an earlier checkpoint"
        )
    return cut
