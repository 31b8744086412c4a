"""Attention as matplotlib figures: heads, layers, rollout and entropy.

The color scale of a figure ends at its largest weight. Keys that a decoder position may not attend to stay white.

Legend: H heads, L query length, M key length.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lit_transformer.analysis.entropy import normalized_head_entropy
from lit_transformer.analysis.grids import LARGEST_INCHES, Map, Panel, Picture, Size, draw, draw_panels
from lit_transformer.analysis.maps import Kind, head_of, kinds_of, maps_of, texts_of
from lit_transformer.analysis.rollout import rollout
from lit_transformer.decoding.attention import Attention

Kinds = Kind | Literal["all"]
"""One kind of attention, or all kinds in one figure."""

CELL_INCHES = 0.28
"""Side of a cell in a map that is drawn large."""
SMALL: Size = (4.8, 3.6)
"""TensorBoard shows pictures in 330 x 235 pixels."""
SIDES = {"encoder": ("source", "source"), "decoder": ("target", "target"), "cross": ("target", "source")}
"""The side of the queries and of the keys, in a model of two stacks."""


class LiveMeanMap:
    """The figure of `mean_map` for the same sentence again and again, while a model learns.

    Only the weights are drawn again, because layout and labels take matplotlib far longer than the maps. The color
    scale is from 0 to 1, so that figures of different steps can be compared.

    Args:
        attention: Has the tokens of everything that is drawn later.
        kind: The kind of maps.
    """

    def __init__(self, attention: Attention, kind: Kind) -> None:
        self._kind = kind
        figure = mean_map(attention, kind)
        self._canvas = FigureCanvasAgg(figure)
        self._axes = figure.axes[0]
        self._image = self._axes.images[0]
        self._image.set_animated(True)  # left out when all is drawn
        self._canvas.draw()
        self._rest = self._canvas.copy_from_bbox(figure.bbox)

    def pixels(self, attention: Attention) -> NDArray[np.uint8]:
        """The figure as height x width x RGB, which TensorBoard's `add_image(..., dataformats="HWC")` takes."""
        self._canvas.restore_region(self._rest)
        self._image.set_data(_mean_of_heads(attention, self._kind))
        self._axes.draw_artist(self._image)
        return np.asarray(self._canvas.buffer_rgba())[..., :3].copy()


def weight_map(weights_LM: Map, queries: Sequence[str], keys: Sequence[str], *, title: str) -> Figure:
    """One large map with a row per query and a column per key.

    Args:
        weights_LM: From 0 to 1. NaN stays white.
        queries: L tokens.
        keys: M tokens.
        title: The title of the figure.
    """
    return draw_panels([Panel(maps=[[weights_LM]], queries=queries, keys=keys, title=title)], cell_inches=CELL_INCHES)


def head_map(attention: Attention, kind: Kinds, *, layer: int, head: int, size: Size | None = None) -> Figure:
    """One head, large. Layers and heads count from 0 here, and from 1 in the title."""

    def panel(kind: Kind) -> Panel:
        weights_LM = _allowed(head_of(attention, kind, layer, head), kind)
        return _panel(attention, kind, [[weights_LM]], f"{kind}, layer {layer + 1}, head {head + 1}")

    return _figure(attention, kind, panel, cell_inches=CELL_INCHES, size=size)


def mean_map(attention: Attention, kind: Kind) -> Figure:
    """The mean of all heads of all layers, in a size that TensorBoard shows whole. Colors are those of 0 to 1."""
    panel = _panel(attention, kind, [[_mean_of_heads(attention, kind)]], f"{kind}, mean of all heads")
    return draw_panels([panel], caption=_caption(attention), size=SMALL, highest=1.0)


def head_grid(attention: Attention, kind: Kinds, *, size: Size | None = None) -> Figure:
    """All heads of a kind, with a row per layer and a column per head."""

    def panel(kind: Kind) -> Panel:
        layers = maps_of(attention, kind).layers
        maps = [[_allowed(weights_LM, kind) for weights_LM in weights_HLM] for weights_HLM in layers.values()]
        rows = [f"layer {layer + 1}" for layer in layers]
        columns = [f"head {head + 1}" for head in range(len(maps[0]))]
        return _panel(attention, kind, maps, kind, rows=rows, columns=columns)

    return _figure(attention, kind, panel, size=size)


def layer_means(attention: Attention, kind: Kinds, *, size: Size | None = None) -> Figure:
    """The mean of the heads of each layer, side by side."""

    def panel(kind: Kind) -> Panel:
        layers = maps_of(attention, kind).layers
        means = [_allowed(weights_HLM.mean(axis=0), kind) for weights_HLM in layers.values()]
        columns = [f"layer {layer + 1}" for layer in layers]
        return _panel(attention, kind, [means], f"{kind}, mean of the heads", columns=columns)

    return _figure(attention, kind, panel, size=size)


def rollout_map(attention: Attention, kind: Kinds, *, size: Size | None = None) -> Figure:
    """Attention rollout: the share of each column's token in each row's position after the last layer."""
    rolled = rollout(attention)

    def panel(kind: Kind) -> Panel:
        title = f"{kind}, rollout over {len(maps_of(attention, kind).layers)} layers"
        return _panel(attention, kind, [[_allowed(rolled.of(kind), kind)]], title)

    return _figure(attention, kind, panel, cell_inches=CELL_INCHES, size=size)


def entropy_map(attention: Attention, *, size: Size | None = None) -> Figure:
    """The normalized entropy of every head, one map per kind. 0 is attention to one key, 1 evenly to all."""
    kinds = kinds_of(attention)
    first = maps_of(attention, kinds[0]).layers
    num_layers, columns = len(first), len(kinds) * len(next(iter(first.values())))
    cell = min(0.55, LARGEST_INCHES / columns, LARGEST_INCHES / num_layers)
    figure = Picture(figsize=size or (columns * cell + 2.5, num_layers * cell + 1.2), layout="compressed")
    all_axes = figure.subplots(1, len(kinds), squeeze=False)[0]
    for axes, kind in zip(all_axes, kinds, strict=True):
        layers = maps_of(attention, kind).layers
        entropies = np.stack([normalized_head_entropy(weights_HLM, kind) for weights_HLM in layers.values()])
        image = draw(axes, entropies)
        for (row, column), value in np.ndenumerate(entropies):
            shade = "black" if value > 0.6 else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=cell * 15)
        axes.set_title(kind, fontsize=10)
        num_heads = entropies.shape[1]
        axes.set_xticks(range(num_heads), [str(head + 1) for head in range(num_heads)], fontsize=8)
        axes.set_yticks(range(len(layers)), [str(layer + 1) for layer in layers], fontsize=8)
        axes.set_xlabel("head", fontsize=9)
    all_axes[0].set_ylabel("layer", fontsize=9)
    figure.colorbar(image, ax=all_axes, label="entropy / largest possible", pad=0.02)
    return figure


def save(figure: Figure, path: Path, *, format: str, dpi: int) -> None:
    """Write a figure as `png`, `svg` or `pdf`. The same weights give the same bytes."""
    # Without a salt, ids in SVG are random. SVG and PDF would also contain the date.
    undated = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[format]
    with mpl.rc_context({"svg.hashsalt": "lit_transformer"}):
        figure.savefig(path, format=format, metadata=undated, dpi=dpi)


def _figure(
    attention: Attention,
    kind: Kinds,
    panel: Callable[[Kind], Panel],
    *,
    size: Size | None,
    cell_inches: float = 0.0,
) -> Figure:
    panels = [panel(each) for each in (kinds_of(attention) if kind == "all" else (kind,))]
    return draw_panels(panels, caption=_caption(attention), cell_inches=cell_inches, size=size)


def _panel(
    attention: Attention,
    kind: Kind,
    maps: Sequence[Sequence[Map]],
    title: str,
    *,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> Panel:
    """Maps of one kind, with the names of their rows and columns."""
    _, queries, keys = maps_of(attention, kind)
    texts = texts_of(attention)
    query_side, key_side = SIDES[kind] if len(texts) == 2 else ("text", "text")
    return Panel(
        maps=maps,
        queries=queries,
        keys=keys,
        title=title,
        query_name=f"{query_side} (query)",
        key_name=f"{key_side} (key)",
        row_names=rows,
        column_names=columns,
    )


def _mean_of_heads(attention: Attention, kind: Kind) -> Map:
    """The mean of all heads of all layers."""
    return _allowed(np.mean([*maps_of(attention, kind).layers.values()], axis=(0, 1)), kind)


def _caption(attention: Attention) -> str:
    """The sentence and its translation, on a line each."""
    return "\n".join(f"{name}: {text}" for name, text in texts_of(attention).items())


def _allowed(weights_LM: Map, kind: Kind) -> Map:
    """The weights, with NaN for keys that a decoder position may not attend to."""
    if kind != "decoder":
        return weights_LM
    return np.where(np.tri(len(weights_LM), dtype=bool), weights_LM, np.nan)
