"""The attention weights of descendants: of the one stack of a GPT, BERT or ViT, and of the two of a BART or T5.

Legend: B batch, C channels, H height, W width, S source length, T target length.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lit_transformer.checkpoints.descendants import TrainedDescendant
from lit_transformer.data.batching import batches_by_length
from lit_transformer.data.text_tokenizer import TextTokenizer
from lit_transformer.data.tokenizer import Tokenizer
from lit_transformer.decoding.attention import Attention, check_layers, cut_maps
from lit_transformer.decoding.devices import enough_memory, inference, memory_remedy, moved, usable_device
from lit_transformer.decoding.settings import BATCH_TOKENS
from lit_transformer.errors import UserError
from lit_transformer.notes import counted

CLASS_VECTOR = "class"
"""The name of a ViT's first position."""
TWO_STACKS = ("bart", "t5")


class Sequences(NamedTuple):
    """The ids of a text on both sides. A model with one stack has one side."""

    source: list[int]
    target_input: list[int]
    target_output: list[int]


class Names(NamedTuple):
    """The tokens of `Sequences`."""

    source: list[str]
    target_input: list[str]
    target_output: list[str]


def record_text_attention(
    trained: TrainedDescendant,
    texts: Sequence[str],
    targets: Sequence[str] | None = None,
    *,
    layers: Collection[int] | None = None,
    device: str = "cpu",
    batch_tokens: int = BATCH_TOKENS,
    first_line: int = 1,
) -> list[Attention]:
    """Record the attention weights of texts.

    Args:
        trained: A GPT or BERT, which has one stack, or a BART or T5, which has two.
        texts: The texts. For a BART or T5, its sources.
        targets: The targets, for a BART or T5.
        layers: The layers to keep, counted from 0, or None for all.
        device: Where to compute, as in `torch.device`.
        batch_tokens: Padded tokens per batch.
        first_line: The line number of the first text, for errors.

    Returns:
        One `Attention` per text, in the same order. That of a BERT has `encoder` alone, and that of a GPT `decoder`.

    Raises:
        UserError: If the model does not read text, `targets` do not fit, a text is too long, or the memory does not
            suffice.
    """
    tokenizer = trained.tokenizer
    if tokenizer is None:
        raise UserError(f"{trained.path} has no vocabulary, so it reads no text: give another model")
    model: Any = moved(trained.model, usable_device(device))
    check_layers(layers, model.config)
    _check_targets(trained, texts, targets)
    encoded = tokenizer.encode(texts), tokenizer.encode(texts if targets is None else targets)
    rows = [sequences(trained, *pair) for pair in zip(*encoded, strict=True)]
    lengths = [max(len(row.source), len(row.target_input)) for row in rows]
    for line, length in enumerate(lengths, start=first_line):
        if length == 0:
            raise UserError(f"line {line} is empty, and a {trained.name} adds no token to it: give some text")
        if model.config.longest is not None and length > model.config.longest:
            raise UserError(
                f"line {line} has {length:,} tokens, but the model reads at most {model.config.longest:,}: shorten it"
            )
    found: dict[int, Attention] = {}
    for batch in batches_by_length(lengths, batch_tokens):
        maps = _maps(model, [rows[index] for index in batch], layers)
        for place, index in enumerate(batch):
            source, target = len(rows[index].source), len(rows[index].target_input)
            target_text = texts[index] if targets is None else targets[index]
            names = _names(tokenizer, rows[index], texts[index], target_text)
            found[index] = Attention(
                source=names.source,
                target_input=names.target_input,
                target_output=names.target_output,
                encoder=cut_maps(maps["encoder"], place, source, source),
                decoder=cut_maps(maps["decoder"], place, target, target),
                cross=cut_maps(maps["cross"], place, target, source),
            )
    return [found[index] for index in range(len(rows))]


def record_image_attention(
    trained: TrainedDescendant, image_BCHW: Tensor, *, layers: Collection[int] | None = None, device: str = "cpu"
) -> list[Attention]:
    """Record the attention weights of a ViT. Patches are named by row and column, counted from 1.

    Args:
        trained: A ViT.
        image_BCHW: The images, as the model takes them.
        layers: The layers to keep, counted from 0, or None for all.
        device: Where to compute, as in `torch.device`.

    Returns:
        One `Attention` per image, with `encoder` alone.

    Raises:
        UserError: If the model takes no such images, or has no such layers.
    """
    if trained.name != "vit":
        raise UserError(f"{trained.path} is a {trained.name}, which reads no images: give a ViT")
    model: Any = moved(trained.model, usable_device(device))
    check_layers(layers, model.config)
    with inference(model):
        maps = model.attention_maps(image_BCHW.to(next(model.parameters()).device), layers=layers)
    side = round((model.config.max_positions - 1) ** 0.5)
    names = [CLASS_VECTOR, *(f"{row},{column}" for row in range(1, side + 1) for column in range(1, side + 1))]
    return [
        Attention(names, [], [], encoder=cut_maps(maps, place, len(names), len(names)), decoder={}, cross={})
        for place in range(len(image_BCHW))
    ]


def sequences(trained: TrainedDescendant, source: list[int], target: list[int]) -> Sequences:
    """A text with the special ids that the model was trained with.

    Args:
        trained: The model.
        source: The ids of the text, without special ones.
        target: The ids of the target for a model with two stacks, else those of the text.
    """
    special = trained.special
    bos, eos = _ids(special.bos), _ids(special.eos)
    if trained.name == "bert":
        return Sequences([*bos, *source, *eos], [], [])
    if trained.name == "gpt":
        # GPT-2 has one token between texts, and none before the first.
        return Sequences([], [*(bos if special.bos != special.eos else []), *target], [*target, *eos])
    if isinstance(trained.tokenizer, Tokenizer):
        return Sequences([*source, *eos], [*bos, *target], [*target, *eos])
    if trained.name == "bart":
        return Sequences([*bos, *source, *eos], [*eos, *bos, *target], [*bos, *target, *eos])
    return Sequences([*source, *eos], [*_ids(special.pad), *target], [*target, *eos])


def _ids(number: int | None) -> list[int]:
    return [] if number is None else [number]


def _check_targets(trained: TrainedDescendant, texts: Sequence[str], targets: Sequence[str] | None) -> None:
    if trained.name in TWO_STACKS and targets is None:
        raise UserError(f"{trained.path} is a {trained.name}, which has a decoder: give a target for each text")
    if trained.name not in TWO_STACKS and targets is not None:
        raise UserError(f"{trained.path} is a {trained.name}, which has one stack: give texts without targets")
    if targets is not None and len(targets) != len(texts):
        raise UserError(f"{counted(len(texts), 'text')} for {counted(len(targets), 'target')}: give one for each")


def _maps(model: Any, rows: Sequence[Sequences], layers: Collection[int] | None) -> dict[str, Mapping[int, Tensor]]:
    """The maps of each kind, padded."""
    device = next(model.parameters()).device
    source_BS, target_BT = (
        pad_sequence(
            [torch.tensor(ids, dtype=torch.int64) for ids in side],
            batch_first=True,
            padding_value=getattr(model, "pad_id", 0),
        ).to(device)
        for side in ([row.source for row in rows], [row.target_input for row in rows])
    )
    maps: dict[str, Mapping[int, Tensor]] = {"encoder": {}, "decoder": {}, "cross": {}}
    longer = source_BS if source_BS.shape[1] > target_BT.shape[1] else target_BT
    with inference(model), enough_memory(memory_remedy(longer, lower="the number of layers")):
        if not source_BS.shape[1]:
            return maps | {"decoder": model.attention_maps(target_BT, layers=layers)}
        if not target_BT.shape[1]:
            return maps | {"encoder": model.attention_maps(source_BS, layers=layers)}
        return maps | model.attention_maps(source_BS, target_BT, layers)._asdict()


def _names(tokenizer: TextTokenizer, row: Sequences, text: str, target: str) -> Names:
    """The tokens of all sides. Our tokenizer knows the characters of unknown ones."""
    names = Names(*(tokenizer.tokens(ids) for ids in row))
    if not isinstance(tokenizer, Tokenizer):
        return names
    return Names(*(tokenizer.name_unknown(each, of) for each, of in zip(names, (text, target, target), strict=True)))
