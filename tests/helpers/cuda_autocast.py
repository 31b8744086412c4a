"""CUDA's autocast on CPUs. Their own autocast casts other operations.

The lists are those of PyTorch's documentation ("CUDA Ops that can autocast to float16" and "to float32"). Layer norm,
softmax and sums give float32 there, and the dtype of their input here.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

PRODUCTS = frozenset({"addmv", "addr", "mv"})
"""What CUDA casts to the lower precision beyond what CPUs cast to it, too."""
FLOAT32 = """
    __pow__ __rdiv__ __rpow__ __rtruediv__ acos asin binary_cross_entropy_with_logits cdist cosh cosine_embedding_loss
    cosine_similarity cross_entropy cumprod cumsum dist erfinv exp expm1 group_norm hinge_embedding_loss kl_div l1_loss
    layer_norm log log10 log1p log2 log_softmax margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss
    nll_loss norm normalize pdist poisson_nll_loss pow prod reciprocal renorm rsqrt sinh smooth_l1_loss
    soft_margin_loss softmax softmin softplus sum tan triplet_margin_loss
"""
"""What CUDA casts to float32."""
SUMS = frozenset(FLOAT32.split())


class _Casts(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name not in PRODUCTS | SUMS or not torch.is_autocast_enabled("cpu"):
            return func(*args, **kwargs)
        dtype = torch.float32 if name in SUMS else torch.get_autocast_dtype("cpu")

        def cast(value: Any) -> Any:
            affected = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16, torch.float32)
            return value.to(dtype) if affected else value

        with torch.autocast("cpu", enabled=False):
            return func(*tree_map(cast, args), **tree_map(cast, kwargs))


@contextlib.contextmanager
def cuda_autocast(dtype: torch.dtype) -> Iterator[None]:
    """`torch.autocast("cuda", dtype)` for tensors on the CPU."""
    with torch.autocast("cpu", dtype), _Casts():
        yield
