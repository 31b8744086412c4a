"""Random attention weights for tests of figures and numbers."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from lit_transformer.decoding.attention import Attention

SOURCE = ["\u2581The", "\u2581cat", "\u2581sle", "eps", ".", "</s>"]
TARGET = ["\u2581Die", "\u2581Katze", "\u2581schläft", ".", "</s>"]
HOSTILE = [
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror='window.pwned = 1'>",
    '"><svg onload="window.pwned = 1">',
    "<!--<script>",
    "&lt;b&gt;",
    "\u2581$\\frac{",
    "$x$_a^b",
    "\u2581",
    "\n\r\u2028\x00",
    "\u202etfel",
    "漢字かな",
    "한국어",
    "שלום",
    "مرحبا",
    "\U0001f469\u200d\U0001f467",
    "x" * 99,
    "`${window.pwned = 1}`",
    "$script $data",
]
"""Tokens that would be executed by a page that does not escape them."""


def random_attention(
    source: Sequence[str] = SOURCE, target: Sequence[str] = TARGET, *, num_layers: int = 2, num_heads: int = 3
) -> Attention:
    generator = torch.Generator().manual_seed(7)

    def maps(num_queries: int, num_keys: int, allowed: torch.Tensor) -> dict[int, np.ndarray]:
        logits = 2.0 * torch.randn(num_layers, num_heads, num_queries, num_keys, generator=generator)
        weights = logits.masked_fill(~allowed, -torch.inf).softmax(dim=-1).numpy()
        return dict(enumerate(weights))

    num_source, num_target = len(source), len(target)
    everything = torch.ones((), dtype=torch.bool)
    return Attention(
        source=list(source),
        target_input=["<s>", *target[:-1]],
        target_output=list(target),
        encoder=maps(num_source, num_source, everything),
        decoder=maps(num_target, num_target, torch.ones(num_target, num_target, dtype=torch.bool).tril()),
        cross=maps(num_target, num_source, everything),
    )


def one_stack(kind: Literal["encoder", "decoder"], *, num_layers: int = 2) -> Attention:
    """What a BERT (`encoder`) or a GPT (`decoder`) has."""
    if kind == "encoder":
        source = ["[CLS]", *SOURCE[:-1], "[SEP]"]
        return replace(
            random_attention(source, num_layers=num_layers), target_input=[], target_output=[], decoder={}, cross={}
        )
    return replace(random_attention(num_layers=num_layers), source=[], encoder={}, cross={})


def pixels(figure: Figure) -> np.ndarray:
    """A figure's pixels, height x width x RGB, drawn as PNG."""
    file = BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB")).astype(int)


def same_picture(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether pixels are equal, except for rounding and for tick marks that reach one pixel into the maps."""
    return first.shape == second.shape and float((np.abs(first.astype(int) - second) > 2).mean()) < 1e-3
