"""Attention as matplotlib figures, made without pyplot and its global list of open figures.

All maps have the same color scale from 0 to 1, so that figures of different heads, layers and runs can be compared.
Keys that a decoder position may not attend to stay white.

Legend: H heads, L query length, M key length.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from lit_transformer.analysis.entropy import normalized_head_entropy
from lit_transformer.analysis.fonts import MISSING, Fonts, choose_fonts
from lit_transformer.analysis.maps import KINDS, WORD_BEGIN, Kind, head_of, maps_of
from lit_transformer.analysis.rollout import rollout
from lit_transformer.decoding.attention import Attention

Map = NDArray[np.floating]

COLORS = "viridis"
"""Perceptually uniform, also with most forms of color blindness."""
LARGEST_INCHES = 24.0
"""The largest side of the maps, however long the sentence is. At 100 dots per inch, a figure has 6 megapixels."""
CELL_INCHES = 0.28
GRID_INCHES = 1.7
"""The smallest side of a map in a grid."""
SMALLEST_FONT, LARGEST_FONT = 5.0, 9.0
LONGEST_LABEL = 16
LONE_BEGIN = "\u2423"
"""A token that is nothing but the beginning of a word. A dot alone would be taken for a full stop."""


class Picture(Figure):
    """A figure that notebooks show although pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


class LiveHeadGrid:
    """The figure of `head_grid` for the same sentence again and again, while a model learns.

    Only the weights are drawn again, because layout and labels take matplotlib far longer than the maps.

    Args:
        attention: Has the tokens and layers of everything that is drawn later.
        kind: The kind of maps.
    """

    def __init__(self, attention: Attention, kind: Kind) -> None:
        self._kind = kind
        figure = head_grid(attention, kind)
        self._canvas = FigureCanvasAgg(figure)
        self._axes = figure.axes[0]
        self._image = self._axes.images[0]
        self._image.set_animated(True)  # left out when all is drawn
        self._canvas.draw()
        self._rest = self._canvas.copy_from_bbox(figure.bbox)

    def pixels(self, attention: Attention) -> NDArray[np.uint8]:
        """The figure as height x width x RGB, which TensorBoard's `add_image(..., dataformats="HWC")` takes."""
        self._canvas.restore_region(self._rest)
        self._image.set_data(_mosaic(_heads(attention, self._kind)))
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
    return _grid([[weights_LM]], queries, keys, title=title, cell_inches=CELL_INCHES)


def head_map(attention: Attention, kind: Kind, *, layer: int, head: int) -> Figure:
    """One head, large. Layers and heads count from 0 here, and from 1 in the title."""
    weights_LM = _allowed(head_of(attention, kind, layer, head), kind)
    _, queries, keys = maps_of(attention, kind)
    return weight_map(weights_LM, queries, keys, title=f"{kind}, layer {layer + 1}, head {head + 1}")


def head_grid(attention: Attention, kind: Kind) -> Figure:
    """All heads of a kind, with a row per layer and a column per head."""
    layers, queries, keys = maps_of(attention, kind)
    maps = _heads(attention, kind)
    return _grid(
        maps,
        queries,
        keys,
        title=kind,
        rows=[f"layer {layer + 1}" for layer in layers],
        columns=[f"head {head + 1}" for head in range(len(maps[0]))],
    )


def layer_means(attention: Attention, kind: Kind) -> Figure:
    """The mean of the heads of each layer, side by side."""
    layers, queries, keys = maps_of(attention, kind)
    means = [_allowed(weights_HLM.mean(axis=0), kind) for weights_HLM in layers.values()]
    columns = [f"layer {layer + 1}" for layer in layers]
    return _grid([means], queries, keys, title=f"{kind}, mean of the heads", columns=columns)


def rollout_map(attention: Attention, kind: Kind) -> Figure:
    """Attention rollout: the share of each column's token in each row's position after the last layer."""
    weights_LM = _allowed(rollout(attention).of(kind), kind)
    _, queries, keys = maps_of(attention, kind)
    return weight_map(weights_LM, queries, keys, title=f"{kind}, rollout over {len(attention.encoder)} layers")


def entropy_map(attention: Attention) -> Figure:
    """The normalized entropy of every head, one map per kind. 0 is attention to one key, 1 evenly to all."""
    num_layers, num_heads = len(attention.encoder), len(next(iter(attention.encoder.values())))
    cell = min(0.55, LARGEST_INCHES / (3 * num_heads), LARGEST_INCHES / num_layers)
    figure = Picture(figsize=(3 * num_heads * cell + 2.5, num_layers * cell + 1.2), layout="compressed")
    all_axes = figure.subplots(1, 3)
    for axes, kind in zip(all_axes, KINDS, strict=True):
        layers = maps_of(attention, kind).layers
        entropies = np.stack([normalized_head_entropy(weights_HLM, kind) for weights_HLM in layers.values()])
        image = _draw(axes, entropies)
        for (row, column), value in np.ndenumerate(entropies):
            shade = "black" if value > 0.6 else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=cell * 15)
        axes.set_title(kind, fontsize=10)
        axes.set_xticks(range(num_heads), [str(head + 1) for head in range(num_heads)], fontsize=8)
        axes.set_yticks(range(len(layers)), [str(layer + 1) for layer in layers], fontsize=8)
        axes.set_xlabel("head", fontsize=9)
    all_axes[0].set_ylabel("layer", fontsize=9)
    figure.colorbar(image, ax=all_axes, label="entropy / largest possible", pad=0.02)
    return figure


def save(figure: Figure, path: Path, *, format: str) -> None:
    """Write a figure as `png`, `svg` or `pdf`. The same weights give the same bytes."""
    # Without a salt, ids in SVG are random. SVG and PDF would also contain the date.
    undated = {"png": None, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[format]
    with mpl.rc_context({"svg.hashsalt": "lit_transformer"}):
        figure.savefig(path, format=format, metadata=undated)


def _grid(
    maps: Sequence[Sequence[Map]],
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    cell_inches: float = 0.0,
) -> Figure:
    """Maps of one shape as one image, because matplotlib is too slow for one pair of axes per map."""
    num_queries, num_keys = maps[0][0].shape
    mosaic = _mosaic(maps)
    cells_high, cells_wide = mosaic.shape
    cell = max(cell_inches, GRID_INCHES / max(num_queries, num_keys))
    cell = min(cell, LARGEST_INCHES / max(cells_high, cells_wide))
    label = 0.09 * min(LONGEST_LABEL, max(map(len, [*queries, *keys]), default=0))
    figure = Picture(figsize=(cells_wide * cell + label + 1.5, cells_high * cell + label + 0.9), layout="compressed")
    axes = figure.subplots()
    image = _draw(axes, mosaic)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=11, pad=24 if columns else 8, parse_math=False)
    size, step = _legible(cell)
    fonts = choose_fonts([*queries, *keys, LONE_BEGIN])
    style: dict[str, Any] = {"fontfamily": fonts.names, "fontsize": size, "parse_math": False}
    axes.set_yticks(
        [row * (num_queries + 1) + place for row in range(len(maps)) for place in range(0, num_queries, step)],
        [_label(token, fonts) for token in queries[::step]] * len(maps),
        **style,
    )
    axes.set_xticks(
        [column * (num_keys + 1) + place for column in range(len(maps[0])) for place in range(0, num_keys, step)],
        [_label(token, fonts) for token in keys[::step]] * len(maps[0]),
        rotation=90,
        **style,
    )
    axes.tick_params(length=0 if size < LARGEST_FONT else 2)
    for column, name in enumerate(columns):
        middle = column * (num_keys + 1) + (num_keys - 1) / 2
        axes.text(middle, -1.0, name, ha="center", va="bottom", fontsize=9)
    for row, name in enumerate(rows):
        middle = row * (num_queries + 1) + (num_queries - 1) / 2
        axes.text(cells_wide, middle, name, ha="left", va="center", rotation=270, fontsize=9)
    figure.colorbar(image, ax=axes, label="weight", pad=0.02, shrink=min(1.0, 4.0 / (cells_high * cell)))
    return figure


def _heads(attention: Attention, kind: Kind) -> list[list[Map]]:
    """The maps of all heads, one list per layer."""
    layers = maps_of(attention, kind).layers.values()
    return [[_allowed(weights_LM, kind) for weights_LM in weights_HLM] for weights_HLM in layers]


def _mosaic(maps: Sequence[Sequence[Map]]) -> Map:
    """Maps of one shape as one map, with an empty cell between neighbors."""
    num_queries, num_keys = maps[0][0].shape
    mosaic = np.full((len(maps) * (num_queries + 1) - 1, len(maps[0]) * (num_keys + 1) - 1), np.nan)
    for row, layer in enumerate(maps):
        for column, weights_LM in enumerate(layer):
            top, left = row * (num_queries + 1), column * (num_keys + 1)
            mosaic[top : top + num_queries, left : left + num_keys] = weights_LM
    return mosaic


def _draw(axes: Axes, values: Map) -> AxesImage:
    return axes.imshow(values, cmap=COLORS, vmin=0.0, vmax=1.0)


def _allowed(weights_LM: Map, kind: Kind) -> Map:
    """The weights, with NaN for keys that a decoder position may not attend to."""
    if kind != "decoder":
        return weights_LM
    return np.where(np.tri(len(weights_LM), dtype=bool), weights_LM, np.nan)


def _legible(cell_inches: float) -> tuple[float, int]:
    """The font size of labels, and the number of cells from one label to the next."""
    points = 72 * cell_inches * 0.9
    return float(np.clip(points, SMALLEST_FONT, LARGEST_FONT)), max(1, int(np.ceil(SMALLEST_FONT / points)))


def _label(token: str, fonts: Fonts) -> str:
    """A token as it is drawn: a dot where a word begins, and a box for a character that no font can draw."""
    text = LONE_BEGIN if token == WORD_BEGIN else token.replace(WORD_BEGIN, "\u00b7")
    text = text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "\u2026"
    return "".join(mark if mark.isprintable() and mark not in fonts.missing else MISSING for mark in text)
