"""The model's loss on every path that is measured: kernels of attention, padded and packed rows, eager and compiled.

Legend: B sentences, S source positions, T target positions, L positions, D d_model.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel
from torch.nn.attention.varlen import varlen_attn

from experiments.measure.gpu.batches import LONGEST, TOKENS, VOCAB_SIZE, on_device
from experiments.measure.gpu.timing import DEVICE, SMALL
from lit_transformer.batch import EOS_ID, PAD_ID, Batch
from lit_transformer.model.attention import FUSED_KERNELS, attention_weights
from lit_transformer.model.config import TransformerConfig
from lit_transformer.model.masks import Mask
from lit_transformer.model.positions import sinusoids
from lit_transformer.model.stack import Memory
from lit_transformer.model.transformer import Transformer
from lit_transformer.training.loss import smoothed_cross_entropy

PATHS = [
    "nn",  # torch.nn.Transformer, F.cross_entropy, without cuDNN's attention
    "ours",  # as `fit` computes today
    "ours8",  # lengths rounded up to multiples of 8
    "cudnn",  # with PyTorch's own choice of a kernel for attention, which is cuDNN's
    "explicit",  # equation (1) written out
    "wholeloss",  # F.cross_entropy on all logits
    "lightning",  # through L.Trainer
    "compiled",  # one graph for all lengths, loss included
    "compiled8",  # lengths rounded up to multiples of 8
    "chunked",  # the same with our chunked loss outside of the graph
    "staticeager",  # one shape, eager
    "static",  # one shape, compiled for it
    "graphs",  # one shape, compiled, CUDA graphs
    "packedeager",  # sentences side by side without padding, attention by varlen_attn
    "packed",  # the same, compiled
    "packedgraphs",  # with CUDA graphs
]
"""How a training step is computed."""


class Plain(nn.Module):
    """PyTorch's own layers, with the embeddings of the paper."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(VOCAB_SIZE, config.d_model)
        nn.init.normal_(self.embedding.weight, std=config.d_model**-0.5)
        layers = config.num_layers
        sizes = (config.d_model, config.num_heads, layers, layers, config.d_ff, config.dropout)
        self.transformer = nn.Transformer(*sizes, batch_first=True)

    def embed(self, ids: Tensor) -> Tensor:
        d_model = self.config.d_model
        place = torch.arange(ids.shape[1], device=ids.device)
        states = self.embedding(ids) * d_model**0.5 + sinusoids(place, d_model)
        return F.dropout(states, self.config.dropout)

    def loss(self, source: Tensor, target_input: Tensor, target_output: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(target_input.shape[1], device=source.device)
        padding = source == PAD_ID
        states = self.transformer(
            self.embed(source),
            self.embed(target_input),
            tgt_mask=mask,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
            tgt_is_causal=True,
        )
        return whole_loss(states, self.embedding.weight, target_output)


def whole_loss(states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    logits = F.linear(states.flatten(0, -2), weight)
    return F.cross_entropy(logits, target.flatten(), ignore_index=PAD_ID, label_smoothing=0.1, reduction="sum")


def chunked_loss(states: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    return smoothed_cross_entropy(states.flatten(0, -2), weight, target.flatten(), pad_id=PAD_ID, epsilon=0.1).smoothed


class Biased(nn.Module):
    """`fused_attention` without the memory of `Mask`, whose keys would tie a compiled graph to the lengths."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        with sdpa_kernel(FUSED_KERNELS):
            if mask.only_causal:
                return F.scaled_dot_product_attention(query, key, value, is_causal=True)
            assert mask.keys_BM is not None
            bias = torch.zeros(mask.keys_BM.shape, dtype=query.dtype, device=query.device)
            bias = bias.masked_fill(~mask.keys_BM, float("-inf"))[:, None, None]
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


class WrittenOut(nn.Module):
    """Equation (1) without a fused kernel."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return attention_weights(query, key, mask).to(value.dtype) @ value


class Default(nn.Module):
    """What PyTorch chooses, cuDNN included."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if mask.only_causal:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        bias = mask.bias(query.shape[2], key.shape[2], query.device)
        bias = None if bias is None else bias.to(query.dtype)
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


def set_kernel(model: Transformer, kernel: nn.Module) -> None:
    """Let every attention of the model compute by this kernel."""
    decoder = model.decoder
    for attention in (*model.encoder.self_attentions, *decoder.self_attentions, *decoder.cross_attentions):
        attention.scaled_dot_product = kernel


class Borders(NamedTuple):
    """Which tokens make a sentence, in the place of a `Mask`: sentence i is tokens[ends[i] : ends[i + 1]]."""

    query: Tensor
    key: Tensor
    causal: bool


class Packed(nn.Module):
    """Attention within each sentence of a row that packs many of them."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, borders: Borders) -> Tensor:
        if SMALL:
            return attend_by_sentence(query, key, value, borders)
        query, key, value = (tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value))
        window = (-1, 0) if borders.causal else (-1, -1)
        output = varlen_attn(query, key, value, borders.query, borders.key, LONGEST, LONGEST, window_size=window)
        assert isinstance(output, Tensor)
        return output.transpose(0, 1)[None]


def attend_by_sentence(query: Tensor, key: Tensor, value: Tensor, borders: Borders) -> Tensor:
    """What `varlen_attn` computes, which no CPU has."""
    outputs = [
        F.scaled_dot_product_attention(query[:, :, a:b], key[:, :, c:d], value[:, :, c:d], is_causal=borders.causal)
        for (a, b), (c, d) in zip(pairwise(borders.query.tolist()), pairwise(borders.key.tolist()), strict=True)
        if b > a and d > c
    ]
    return F.pad(torch.cat(outputs, dim=2), (0, 0, 0, query.shape[2] - sum(output.shape[2] for output in outputs)))


def packed(batch: Batch, tokens: int, sentences: int | None) -> tuple[Tensor, ...]:
    """Ids, positions and borders of both sides, filled up to `tokens` tokens, on request to `sentences` sentences.

    The filling makes sentences of at most `LONGEST` tokens, of which no loss is computed.
    """
    ids_of_sides = batch.source_BS, batch.target_output_BT
    rests = [tokens - int((ids != PAD_ID).sum()) for ids in ids_of_sides]
    fillers = -(-max(rests) // LONGEST)
    flat = []
    for ids, rest in zip(ids_of_sides, rests, strict=True):
        real = ids != PAD_ID
        filling = (rest - LONGEST * torch.arange(fillers)).clamp(0, LONGEST)
        ends = torch.cat([real.sum(dim=1), filling]).cumsum(0)
        if sentences is not None:
            ends = F.pad(ends, (0, sentences - len(ends)), value=tokens)
        position = F.pad(torch.arange(ids.shape[1]).expand(ids.shape)[real], (0, rest))
        flat.append((real, rest, position[None], F.pad(ends, (1, 0)).int()))
    (source_real, source_rest, source_position, source_ends), (real, rest, position, ends) = flat
    parts = (
        F.pad(batch.source_BS[source_real], (0, source_rest), value=EOS_ID)[None],
        F.pad(batch.target_input_BT[real], (0, rest), value=EOS_ID)[None],
        F.pad(batch.target_output_BT[real], (0, rest), value=PAD_ID)[None],
        source_position,
        position,
        source_ends,
        ends,
    )
    return tuple(part.to(DEVICE) for part in parts)


def packed_states(
    model: Transformer,
    source: Tensor,
    target_input: Tensor,
    source_position: Tensor,
    target_position: Tensor,
    source_ends: Tensor,
    target_ends: Tensor,
) -> Tensor:
    """Decoder states, 1 x L x D."""
    mask: Any = Borders(source_ends, source_ends, causal=False)
    cross: Any = Borders(target_ends, source_ends, causal=False)
    memory = Memory(model.encoder(model.embed_source(source), mask, positions_BL=source_position), cross)
    source_heads = model.decoder.project(memory)
    own: Any = Borders(target_ends, target_ends, causal=True)
    return model.decoder(model.embed_target(target_input), own, positions_BL=target_position, source=source_heads)


class Step:
    """One optimizer step on any of the paths."""

    def __init__(self, config: TransformerConfig, path: str) -> None:
        torch.manual_seed(0)
        self.path = path
        self.packs = path.startswith("packed")
        self.compiles = path in ("compiled", "compiled8", "chunked", "static", "graphs", "packed", "packedgraphs")
        self.static = path in ("static", "staticeager", "graphs")
        self.multiple = 8 if path.endswith("8") else 1
        model: Any = Plain(config) if path == "nn" else Transformer(config, vocab_size=VOCAB_SIZE, pad_id=PAD_ID)
        self.model = model.to(DEVICE).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
        if path == "nn":  # with cuDNN it waits for a plan at every new shape
            torch.backends.cuda.enable_cudnn_sdp(False)
        self.loss = self._loss()

    def _loss(self) -> Callable[..., Tensor]:
        model = self.model
        if self.path == "nn":
            return model.loss
        weight = model.embedding.weight
        loss_of_states = whole_loss if self.compiles or self.path == "wholeloss" else chunked_loss
        kernels = {"explicit": WrittenOut, "cudnn": Default}
        kernel = Packed if self.packs else Biased if self.compiles else kernels.get(self.path)
        if kernel is not None:
            set_kernel(model, kernel())

        def states(source: Tensor, target_input: Tensor, *places: Tensor) -> Tensor:
            if self.packs:
                return packed_states(model, source, target_input, *places)
            return model.decode(target_input, model.encode(source))

        if self.path == "chunked":
            states, loss_of_states = torch.compile(states, dynamic=True), chunked_loss

        def loss(source: Tensor, target_input: Tensor, target_output: Tensor, *places: Tensor) -> Tensor:
            return loss_of_states(states(source, target_input, *places), weight, target_output)

        if not self.compiles or self.path == "chunked":
            return loss
        mode = "reduce-overhead" if self.path.endswith("graphs") else None
        # Packed, the number of tokens is fixed and only that of the sentences changes.
        dynamic = False if self.static or self.path == "packedgraphs" else None if self.packs else True
        return torch.compile(loss, dynamic=dynamic, mode=mode, fullgraph=not self.packs)

    def inputs(self, batch: Batch) -> tuple[Tensor, ...]:
        if self.packs:
            # Products are fastest with a multiple of their blocks.
            inputs = packed(batch, -(-TOKENS // 128) * 128, 2048 if self.path == "packedgraphs" else None)
            if self.path == "packed":
                for borders in inputs[5:]:
                    torch._dynamo.mark_dynamic(borders, 0)
            return inputs
        batch = on_device(batch)
        return batch.source_BS, batch.target_input_BT, batch.target_output_BT

    def __call__(self, inputs: tuple[Tensor, ...], num_tokens: int) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16, cache_enabled=False):
            loss = self.loss(*inputs)
        (loss / num_tokens).backward()
        self.optimizer.step()
