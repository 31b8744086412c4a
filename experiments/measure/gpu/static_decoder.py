"""A step of beam search whose tensors never change their shapes or places, so that a CUDA graph can replay it.

Legend: B sentences, K beams per sentence, N rows (B x K), S source positions, T output positions, C candidates,
Y blocks, X logits, D d_model, V vocabulary.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from lit_transformer.batch import BOS_ID, EOS_ID, PAD_ID
from lit_transformer.model.attention import FUSED_KERNELS, CrossAttention, SelfAttention, merge_heads, split_heads
from lit_transformer.model.positions import sinusoids
from lit_transformer.model.transformer import Transformer

BEAM_SIZE, ALPHA = 4, 0.6


class StaticDecoder:
    """A step of beam search whose tensors never change their shapes or places, so that a CUDA graph can replay it."""

    def __init__(self, model: Transformer, sentences: int, source_length: int, steps: int) -> None:
        config = model.config
        self.model, self.steps = model, steps
        self.sentences, self.rows = sentences, sentences * BEAM_SIZE
        weight = model.embedding.weight
        new = partial(torch.zeros, device=weight.device, dtype=weight.dtype)
        cache = self.rows, config.num_heads, steps, config.key_size
        source = sentences, config.num_heads, source_length, config.key_size
        layers = range(config.num_layers)
        self.past = [(new(cache), new(cache)) for _ in layers]
        self.source = [(new(source), new(source)) for _ in layers]
        self.source_bias_B11S = new(sentences, 1, 1, source_length)
        self.table_TD = sinusoids(torch.arange(steps, device=weight.device), config.d_model).to(weight.dtype)
        self.place_T = torch.arange(steps, device=weight.device)
        long = partial(torch.zeros, device=weight.device, dtype=torch.int64)
        self.now_1, self.token_N = long(1), long(self.rows)
        self.tokens_BKT, self.finished_BKT = (long(sentences, BEAM_SIZE, steps) for _ in range(2))
        self.score_BK = torch.zeros(sentences, BEAM_SIZE, device=weight.device)
        self.finished_score_BK = torch.zeros_like(self.score_BK)
        self.first_row_B1 = torch.arange(sentences, device=weight.device)[:, None] * BEAM_SIZE

    def load(self, source_BS: Tensor) -> None:
        """Encode a batch of the decoder's shape and go back to the first step."""
        memory = self.model.encode(source_BS)
        for attention, (key, value) in zip(self.model.decoder.cross_attentions, self.source, strict=True):
            heads = attention.keys_values(memory.states_BSD)
            key.copy_(heads.key_BHMK)
            value.copy_(heads.value_BHMK)
        self.source_bias_B11S.zero_().masked_fill_((source_BS == PAD_ID)[:, None, None], float("-inf"))
        self.now_1.zero_()
        self.token_N.fill_(BOS_ID)
        self.score_BK.fill_(float("-inf"))[:, 0] = 0.0
        self.finished_score_BK.fill_(float("-inf"))

    def logits(self) -> Tensor:
        model, config = self.model, self.model.config
        states = model.embedding(self.token_N) * config.d_model**0.5 + self.table_TD[self.now_1]
        seen_1T = torch.where(self.place_T <= self.now_1, 0.0, float("-inf")).to(states.dtype)[None]
        for layer, past, source in zip(model.decoder.layers, self.past, self.source, strict=True):
            states = layer.self_attention_norm(states, partial(self._attend, layer.self_attention, past, seen_1T))
            states = layer.cross_attention_norm(states, partial(self._attend_to_source, layer.cross_attention, source))
            states = layer.feed_forward_norm(states, layer.feed_forward)
        return model.logits(states)

    def _attend(self, attention: SelfAttention, past: tuple[Tensor, Tensor], seen: Tensor, states: Tensor) -> Tensor:
        parts = attention.query_key_value(states[:, None]).split(attention.sizes, dim=-1)
        query, key, value = (split_heads(part, attention.num_heads) for part in parts)
        past[0].index_copy_(2, self.now_1, key)
        past[1].index_copy_(2, self.now_1, value)
        with sdpa_kernel(FUSED_KERNELS):
            output = F.scaled_dot_product_attention(query, *past, attn_mask=seen)
        return attention.output(merge_heads(output))[:, 0]

    def _attend_to_source(self, attention: CrossAttention, source: tuple[Tensor, Tensor], states: Tensor) -> Tensor:
        query = split_heads(attention.query(states.unflatten(0, (self.sentences, BEAM_SIZE))), attention.num_heads)
        with sdpa_kernel(FUSED_KERNELS):
            output = F.scaled_dot_product_attention(query, *source, attn_mask=self.source_bias_B11S)
        return attention.output(merge_heads(output)).flatten(0, 1)

    def step(self) -> None:
        logits_NV = self.logits().float()
        log_prob_NV = logits_NV.log_softmax(dim=-1)
        log_prob_NV[:, : EOS_ID + 1] = float("-inf")  # the random model must not end
        candidate_BX = (self.score_BK[:, :, None] + log_prob_NV.unflatten(0, self.score_BK.shape)).flatten(1)
        score_BC, flat_BC = two_stage_topk(candidate_BX, 2 * BEAM_SIZE)
        vocab_size = log_prob_NV.shape[1]
        parent_BC = flat_BC // vocab_size
        token_BC = flat_BC - parent_BC * vocab_size
        ends_BC = token_BC == EOS_ID
        penalty = ((6.0 + self.now_1) / 6.0) ** ALPHA
        self._finish((score_BC / penalty).masked_fill(~ends_BC, float("-inf"))[:, :BEAM_SIZE], parent_BC[:, :BEAM_SIZE])
        score_BK, rank_BK = score_BC.masked_fill(ends_BC, float("-inf")).topk(BEAM_SIZE, dim=1)
        parent_BK, token_BK = parent_BC.gather(1, rank_BK), token_BC.gather(1, rank_BK)
        self.score_BK.copy_(score_BK)
        self.tokens_BKT.copy_(self.tokens_BKT.gather(1, parent_BK[:, :, None].expand(self.tokens_BKT.shape)))
        self.tokens_BKT.index_copy_(2, self.now_1, token_BK[:, :, None])
        self.token_N.copy_(token_BK.flatten())
        row_N = (self.first_row_B1 + parent_BK).flatten()
        for key, value in self.past:
            key.copy_(key.index_select(0, row_N))
            value.copy_(value.index_select(0, row_N))
        self.now_1 += 1

    def _finish(self, ended_BK: Tensor, parent_BK: Tensor) -> None:
        score_BC = torch.cat([self.finished_score_BK, ended_BK], dim=1)
        best_BK, rank_BK = score_BC.topk(BEAM_SIZE, dim=1)
        ended_BKT = self.tokens_BKT.gather(1, parent_BK[:, :, None].expand(self.tokens_BKT.shape))
        both_BCT = torch.cat([self.finished_BKT, ended_BKT], dim=1)
        self.finished_BKT.copy_(both_BCT.gather(1, rank_BK[:, :, None].expand(self.tokens_BKT.shape)))
        self.finished_score_BK.copy_(best_BK)


def two_stage_topk(score_BX: Tensor, count: int, block: int = 250) -> tuple[Tensor, Tensor]:
    """As `lit_transformer.decoding.beams.topk`; the block divides the vocabulary, so that nothing is filled up."""
    blocks_BYX = score_BX.unflatten(1, (-1, block))
    best_BC = blocks_BYX.amax(dim=2).topk(count, dim=1).indices
    inside_BX = blocks_BYX.gather(1, best_BC[:, :, None].expand(-1, -1, block)).flatten(1)
    value_BC, place_BC = inside_BX.topk(count, dim=1)
    return value_BC, best_BC.gather(1, place_BC // block) * block + place_BC % block
