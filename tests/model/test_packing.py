"""Attention in packed rows, against the mask written out, and against what PyTorch's kernel for it takes."""

import inspect
from math import inf
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_transformer.model import attention
from lit_transformer.model.attention import attend, attention_weights, fits_varlen
from lit_transformer.model.masks import Mask
from lit_transformer.model.packing import PackedRow, RowPair

H, K = 2, 8
QUERIES, KEYS = (3, 1, 5), (2, 4, 1)


def make_row(lengths: tuple[int, ...]) -> PackedRow:
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    borders = torch.tensor([0, *lengths]).cumsum(0).int()
    return PackedRow.make(positions, borders, torch.arange(max(lengths)), longest=7)


def heads(length: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(1, H, length, K, dtype=dtype)


@pytest.mark.parametrize(("keys", "causal"), [(KEYS, False), (QUERIES, False), (QUERIES, True)])
def test_attention_within_sentences_is_that_of_the_mask_written_out(keys: tuple[int, ...], causal: bool) -> None:
    mask = Mask(causal=causal, packing=RowPair(make_row(QUERIES), make_row(keys)))
    query, key, value = heads(sum(QUERIES)), heads(sum(keys)), heads(sum(keys))
    weights = attention_weights(query, key, mask)
    torch.testing.assert_close(attend(query, key, value, mask), weights @ value, rtol=0.0, atol=1e-6)
    begin = 0
    for sentence, (length, num_keys) in enumerate(zip(QUERIES, keys, strict=True)):
        own = weights[0, :, begin : begin + length, sum(keys[:sentence]) :][..., :num_keys]
        torch.testing.assert_close(own.sum(-1), torch.ones_like(own[..., 0]))
        begin += length


def test_a_row_of_sentences_is_unpacked_and_packed_again() -> None:
    row, packed = make_row(QUERIES), heads(sum(QUERIES))
    padded = row.unpack(packed)
    assert padded.shape == (len(QUERIES), H, max(QUERIES), K)
    for sentence, part in enumerate(packed[0].split(QUERIES, dim=1)):
        assert torch.equal(padded[sentence, :, : QUERIES[sentence]], part)
    assert torch.equal(row.pack(padded), packed)


def test_the_kernel_of_packed_rows_gets_the_borders(monkeypatch: pytest.MonkeyPatch) -> None:
    """No CPU has it. Here, a stand-in computes what PyTorch documents."""
    import torch.nn.attention.varlen

    scaled_dot_product_attention: Any = torch.nn.functional.scaled_dot_product_attention

    def stand_in(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        **more: Any,
    ) -> Tensor:
        assert (cu_seq_q.dtype, cu_seq_k.dtype) == (torch.int32, torch.int32)
        assert max_q >= int(cu_seq_q.diff().max())
        assert max_k >= int(cu_seq_k.diff().max())
        sizes = [cu_seq.diff().tolist() for cu_seq in (cu_seq_q, cu_seq_k, cu_seq_k)]
        parts = zip(*(heads.split(each) for heads, each in zip((query, key, value), sizes, strict=True)), strict=True)
        left, right = (inf if size == -1 else size for size in more["window_size"])
        outputs = []
        for one in parts:
            distance = torch.arange(len(one[0]))[:, None] - torch.arange(len(one[1]))
            near = (distance <= left) & (-distance <= right)
            outputs.append(scaled_dot_product_attention(*(h.transpose(0, 1) for h in one), attn_mask=near))
        return torch.cat([output.transpose(0, 1) for output in outputs])

    theirs = torch.nn.attention.varlen.varlen_attn
    parameters = inspect.signature(theirs).parameters
    assert list(parameters)[:7] == list(inspect.signature(stand_in).parameters)[:7]
    assert parameters["window_size"].default == (-1, -1), "left and right, without a limit"
    for keys, causal, window in ((KEYS, False, None), (QUERIES, True, None), (QUERIES, False, 2), (QUERIES, True, 3)):
        mask = Mask(causal=causal, window=window, packing=RowPair(make_row(QUERIES), make_row(keys)))
        query, key, value = heads(sum(QUERIES)), heads(sum(keys)), heads(sum(keys))
        expected = attend(query, key, value, mask)
        with monkeypatch.context() as patch:
            patch.setattr(attention, "fits_varlen", lambda *_: True)
            patch.setattr(torch.nn.attention.varlen, "varlen_attn", stand_in)
            torch.testing.assert_close(attend(query, key, value, mask), expected, rtol=0.0, atol=1e-6)


def test_only_a_gpu_in_16_bits_has_the_kernel() -> None:
    mask = Mask(packing=RowPair(make_row(QUERIES), make_row(KEYS)))
    assert not fits_varlen(heads(9, torch.bfloat16), heads(7, torch.bfloat16), mask)
