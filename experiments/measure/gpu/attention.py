"""Attention alone, forward and backward: kernels at the lengths of sentences, and sliding windows at long ones.

Legend: B sentences, H heads, L positions, K head width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.attention.varlen import varlen_attn

from experiments.measure.gpu import timing
from experiments.measure.gpu.timing import DEVICE, SMALL, report

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys and values, B x H x L x K, to outputs."""

HEADS, WIDTH, WINDOW, BLOCK = 8, 64, 256, 128
TOKENS = 512 if SMALL else 25_600
SHORT = [16, 32, 64, 128]
LONG = [128, 1024] if SMALL else [2**power for power in range(7, 18, 2)]
EXPLICIT_UP_TO = 16_384


def heads(sentences: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values in the layout that a projection leaves: B x L x H x K, seen as B x H x L x K."""

    def head() -> Tensor:
        shape = sentences, length, HEADS, WIDTH
        return torch.randn(shape, device=DEVICE, dtype=torch.bfloat16).transpose(1, 2).requires_grad_()

    return head(), head(), head()


def forward_backward(attend: Attend, tensors: tuple[Tensor, Tensor, Tensor]) -> Callable[[], object]:
    """One forward and backward pass."""
    gradient = torch.randn_like(tensors[0])
    return lambda: torch.autograd.grad(attend(*tensors), tensors, gradient)


def explicit(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Equation (1) written out."""
    score = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return (score + bias).softmax(dim=-1) @ value


def kernel(backend: SDPBackend | None = None, *, bias: Tensor | None = None, is_causal: bool = False) -> Attend:
    """PyTorch's fused attention by one kernel, or by the one that it chooses."""

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if backend is None:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=is_causal)
        with sdpa_kernel([backend]):
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, is_causal=is_causal)

    return attend


def varlen(length: int) -> Attend:
    """Attention over packed rows of sentences of one length, L x H x K."""
    ends = torch.arange(0, TOKENS + 1, length, device=DEVICE, dtype=torch.int32)

    def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = varlen_attn(query, key, value, ends, ends, length, length)
        assert isinstance(output, Tensor)
        return output

    return attend


def short() -> None:
    """The time of one attention over a batch: of its kernels alone (replayed CUDA graphs), and launched one by one."""
    kernels = {
        "default": None,
        "flash": SDPBackend.FLASH_ATTENTION,
        "efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
    }
    for length in SHORT:
        tensors = heads(TOKENS // length, length)
        bias = torch.zeros(TOKENS // length, 1, 1, length, device=DEVICE, dtype=torch.bfloat16)
        bias[:, :, :, length - 2 :] = float("-inf")
        ways: dict[str, Attend] = {}
        for name, backend in kernels.items():
            ways[f"{name}, causal"] = kernel(backend, is_causal=True)
            if name != "flash":  # it takes no mask
                ways[f"{name}, padding"] = kernel(backend, bias=bias)
        ways["written out, padding"] = lambda q, k, v, bias=bias: explicit(q, k, v, bias)  # type: ignore[misc]
        for name, attend in ways.items():
            report_short(f"attention L={length} {name}", forward_backward(attend, tensors))
        query, key, value = (tensor.detach().transpose(1, 2).flatten(0, 1).requires_grad_() for tensor in tensors)
        report_short(f"attention L={length} varlen", forward_backward(varlen(length), (query, key, value)))


def report_short(name: str, work: Callable[[], object]) -> None:
    """A line, also for a kernel that refuses the inputs."""
    try:
        report(name, kernels_ms=timing.graph_milliseconds(work), launched_ms=timing.milliseconds(work))
    except (RuntimeError, NotImplementedError) as error:
        report(name, fails=str(error).splitlines()[0][:90])


def window_by_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Blocks of a window's length are sentences of a batch, which attend to themselves and to the block before."""
    if query.shape[2] <= WINDOW:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    blocks = query.shape[2] // WINDOW
    query, key, value = (t.unflatten(2, (-1, WINDOW)).transpose(1, 2).flatten(0, 1) for t in (query, key, value))
    key, value = (torch.cat([F.pad(t, (0, 0, 0, 0, 0, 0, 1, 0))[:-1], t], dim=2) for t in (key, value))
    key_place = torch.arange(2 * WINDOW, device=query.device)
    distance = torch.arange(WINDOW, 2 * WINDOW, device=query.device)[:, None] - key_place
    allowed = (distance >= 0) & (distance < WINDOW)
    allowed = allowed & ((key_place >= WINDOW) | (torch.arange(blocks, device=query.device)[:, None, None] > 0))
    bias = torch.zeros(allowed.shape, device=query.device, dtype=query.dtype).masked_fill(~allowed, float("-inf"))
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=bias[:, None])
    return output.unflatten(0, (-1, blocks)).transpose(1, 2).flatten(2, 3)


def in_window(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Whether a query may attend to a key."""
    return (query >= key) & (query - key < WINDOW)


def window_mask(length: int) -> BlockMask:
    """A window of two blocks, made by hand: `create_block_mask` would compute length x length booleans.

    The block before a query's own is whole. Its own and the one two before are cut.
    """
    blocks = length // BLOCK
    row = torch.arange(blocks, device=DEVICE, dtype=torch.int32)
    cut, whole = row.expand(blocks, blocks).clone(), row.expand(blocks, blocks).clone()
    cut[:, 0] = row
    if blocks > 1:
        cut[:, 1] = (row - 2).clamp(min=0)
    whole[:, 0] = (row - 1).clamp(min=0)
    return BlockMask.from_kv_blocks(
        (1 + (row >= 2).int())[None, None],
        cut[None, None],
        (row >= 1).int()[None, None],
        whole[None, None],
        BLOCK_SIZE=BLOCK,
        mask_mod=in_window,
        seq_lengths=(length, length),
    )


def window_by_flex(compiled: Callable[..., Tensor], length: int) -> Attend:
    """flex_attention, which skips the blocks outside of the window."""
    mask = window_mask(length)
    return lambda query, key, value: compiled(query, key, value, block_mask=mask)


def measure_long() -> None:
    """Time and memory of one layer's attention against the length.

    flex_attention is compiled for all lengths first. On a CPU it has no backward pass, and only the outputs are
    compared.
    """
    torch._dynamo.config.recompile_limit = 64
    compiled = flex_attention if SMALL else torch.compile(flex_attention, dynamic=False)
    flex = {length: window_by_flex(compiled, length) for length in LONG}
    for length in [] if SMALL else LONG:
        forward_backward(flex[length], heads(1, length))()
    for length in LONG:
        ways = {"full": kernel(is_causal=True), "window, blocks": window_by_blocks}
        if length > WINDOW:
            report_difference(flex[length], length)
        if not SMALL:
            ways["window, flex"] = flex[length]
        if length <= EXPLICIT_UP_TO:
            allowed = torch.ones(length, length, device=DEVICE, dtype=torch.bool).tril()
            bias = torch.zeros(length, length, device=DEVICE, dtype=torch.bfloat16).masked_fill_(~allowed, -torch.inf)
            ways["full, written out"] = lambda q, k, v, bias=bias: explicit(q, k, v, bias)  # type: ignore[misc]
        for name, attend in ways.items():
            work = forward_backward(attend, heads(1, length))
            work()
            timing.reset_peak()
            milliseconds = timing.milliseconds(work, repeats=5, warm_up=1)
            report(f"long L={length} {name}", ms=milliseconds, peak_gb=timing.peak_gigabytes())


@torch.no_grad()
def report_difference(flex: Attend, length: int) -> None:
    """Both windows are the same function."""
    query, key, value = (tensor.detach() for tensor in heads(1, length))
    expected = window_by_blocks(query, key, value).float()
    difference = (flex(query, key, value).float() - expected).norm() / expected.norm()
    report(f"long L={length}, flex and blocks differ by", relative=difference.item())
