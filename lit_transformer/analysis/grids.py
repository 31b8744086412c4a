"""Grids of maps as matplotlib figures, made without pyplot and its global list of open figures.

Legend: L query length, M key length.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from lit_transformer.analysis.fonts import MISSING, Fonts, choose_fonts
from lit_transformer.analysis.maps import WORD_BEGIN
from lit_transformer.errors import UserError

Map = NDArray[np.floating]
Size = tuple[float, float]
"""Width and height of a figure in inches."""

COLORS = "viridis"
"""Perceptually uniform, also with most forms of color blindness."""
LARGEST_INCHES = 24.0
"""The largest side of the maps, however long the sentence is. At 100 dots per inch, a figure has 6 megapixels."""
GRID_INCHES = 1.7
"""The smallest side of a map in a grid."""
SMALLEST_CELL = 0.02
"""Inches."""
SMALLEST_FONT, LARGEST_FONT = 5.0, 9.0
CAPTION_FONT = 9.0
CAPTION_CHARACTERS = 13
"""Characters of a caption in an inch."""
LINE_INCHES = 0.19
LONGEST_LABEL = 16
LABEL_INCHES = 0.09
"""Width of a character of a label."""
MARGIN: Size = 1.1, 0.8
"""Space beside and above a panel for titles, axis names and the names of rows."""
BAR_INCHES = 0.8
"""Width of the color scale."""
LONE_BEGIN = "\u2423"
"""A token that is nothing but the beginning of a word. A dot alone would be taken for a full stop."""


class Picture(Figure):
    """A figure that notebooks show although pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        file = BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """Maps of one shape with the same tokens, in rows and columns.

    Args:
        maps: Rows of maps, each L x M with weights from 0 to 1. NaN stays white.
        queries: The L tokens of each map's rows.
        keys: The M tokens of each map's columns.
        title: Stands above the panel.
        query_name: What the tokens of the rows are.
        key_name: What the tokens of the columns are.
        row_names: The name of each row of maps.
        column_names: The name of each column of maps.
    """

    maps: Sequence[Sequence[Map]]
    queries: Sequence[str]
    keys: Sequence[str]
    title: str
    query_name: str = ""
    key_name: str = ""
    row_names: Sequence[str] = ()
    column_names: Sequence[str] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Cells of the panel, in height and width."""
        num_queries, num_keys = self.maps[0][0].shape
        return len(self.maps) * (num_queries + 1) - 1, len(self.maps[0]) * (num_keys + 1) - 1

    @property
    def label_inches(self) -> float:
        """Length of the longest label."""
        return LABEL_INCHES * min(LONGEST_LABEL, max(map(len, [*self.queries, *self.keys]), default=0))


def draw_panels(
    panels: Sequence[Panel],
    *,
    caption: str = "",
    cell_inches: float = 0.0,
    size: Size | None = None,
    highest: float | None = None,
) -> Figure:
    """Draw panels with one color scale. Panels of one map stand side by side, others one below the other.

    Args:
        panels: What to draw.
        caption: Stands above everything.
        cell_inches: The smallest side of a cell, if the figure does not become too large.
        size: Size of the figure. By default, it follows from the number of cells.
        highest: The weight at the end of the color scale. By default, it is the largest one that is drawn.

    Raises:
        UserError: If the size is too small.
    """
    beside = all(len(panel.maps) == len(panel.maps[0]) == 1 for panel in panels)
    shapes = np.array([panel.shape for panel in panels])
    high, wide = (shapes.max(0)[0], shapes.sum(0)[1]) if beside else (shapes.sum(0)[0], shapes.max(0)[1])
    across, down = (len(panels), 1) if beside else (1, len(panels))
    label = max(panel.label_inches for panel in panels)
    frame = np.array([across * (label + MARGIN[0]) + BAR_INCHES, down * (label + MARGIN[1])])
    cell = max(cell_inches, GRID_INCHES / max(max(panel.maps[0][0].shape) for panel in panels))
    cell = min(cell, LARGEST_INCHES / max(high, wide))
    if size is not None:
        cell = min((size[0] - frame[0]) / wide, (size[1] - frame[1]) / high)
        if cell < SMALLEST_CELL:
            least = frame + SMALLEST_CELL * np.array([wide, high])
            raise UserError(
                f"size is {size[0]:.1f} x {size[1]:.1f} inches: {wide} x {high} cells with their labels need at least "
                f"{least[0]:.1f} x {least[1]:.1f}; enlarge the figure, lower its dots per inch, or choose fewer layers"
            )
    width = wide * cell + frame[0] if size is None else size[0]
    lines = [
        part for line in caption.splitlines() for part in textwrap.wrap(line, max(20, int(width * CAPTION_CHARACTERS)))
    ]
    height = high * cell + frame[1] + LINE_INCHES * (len(lines) + 1) if size is None else size[1]
    figure = Picture(figsize=(width, height), layout="compressed")
    ratios = {"width_ratios": shapes[:, 1]} if beside else {"height_ratios": shapes[:, 0]}
    all_axes = figure.subplots(down, across, squeeze=False, gridspec_kw=ratios).ravel()
    if highest is None:
        highest = max(float(np.nanmax(each)) for panel in panels for row in panel.maps for each in row) or 1.0
    for axes, panel in zip(all_axes, panels, strict=True):
        image = _draw_panel(axes, panel, cell, highest)
    if lines:
        _caption(figure, lines)
    shrink = min(1.0, 4.0 / (high * cell))
    figure.colorbar(image, ax=list(all_axes), label="attention weight", pad=0.02, shrink=shrink)
    return figure


def mosaic(maps: Sequence[Sequence[Map]]) -> Map:
    """Maps of one shape as one map, with an empty cell between neighbors."""
    num_queries, num_keys = maps[0][0].shape
    whole = np.full((len(maps) * (num_queries + 1) - 1, len(maps[0]) * (num_keys + 1) - 1), np.nan)
    for row, layer in enumerate(maps):
        for column, weights_LM in enumerate(layer):
            top, left = row * (num_queries + 1), column * (num_keys + 1)
            whole[top : top + num_queries, left : left + num_keys] = weights_LM
    return whole


def draw(axes: Axes, values: Map, highest: float = 1.0) -> AxesImage:
    """Draw values from 0 to `highest` in colors."""
    return axes.imshow(values, cmap=COLORS, vmin=0.0, vmax=highest)


def _caption(figure: Figure, lines: Sequence[str]) -> None:
    """Write lines at the top of a figure, and keep its layout out of there."""
    fonts = choose_fonts(lines)
    style: dict[str, Any] = {"fontfamily": fonts.names, "fontsize": CAPTION_FONT, "parse_math": False, "va": "top"}
    height = figure.get_size_inches()[1]
    text = "\n".join(_drawable(line, fonts) for line in lines)
    figure.text(0.5, 1 - LINE_INCHES / 2 / height, text, ha="center", **style).set_in_layout(False)
    layout = figure.get_layout_engine()
    assert isinstance(layout, ConstrainedLayoutEngine)
    layout.set(rect=(0.0, 0.0, 1.0, 1 - LINE_INCHES * (len(lines) + 1) / height))


def _draw_panel(axes: Axes, panel: Panel, cell: float, highest: float) -> AxesImage:
    """Draw a panel as one image, because matplotlib is too slow for one pair of axes per map."""
    num_queries, num_keys = panel.maps[0][0].shape
    image = draw(axes, mosaic(panel.maps), highest)
    axes.spines[:].set_visible(False)
    axes.set_title(panel.title, fontsize=11, pad=24 if panel.column_names else 8, parse_math=False)
    axes.set_ylabel(panel.query_name, fontsize=LARGEST_FONT)
    axes.set_xlabel(panel.key_name, fontsize=LARGEST_FONT)
    size, step = _legible(cell)
    fonts = choose_fonts([*panel.queries, *panel.keys, LONE_BEGIN])
    style: dict[str, Any] = {"fontfamily": fonts.names, "fontsize": size, "parse_math": False}
    axes.set_yticks(
        [row * (num_queries + 1) + place for row in range(len(panel.maps)) for place in range(0, num_queries, step)],
        [_label(token, fonts) for token in panel.queries[::step]] * len(panel.maps),
        **style,
    )
    axes.set_xticks(
        [column * (num_keys + 1) + place for column in range(len(panel.maps[0])) for place in range(0, num_keys, step)],
        [_label(token, fonts) for token in panel.keys[::step]] * len(panel.maps[0]),
        rotation=90,
        **style,
    )
    axes.tick_params(length=0 if size < LARGEST_FONT else 2)
    for column, name in enumerate(panel.column_names):
        middle = column * (num_keys + 1) + (num_keys - 1) / 2
        place: dict[str, Any] = {"xytext": (0, 4), "textcoords": "offset points"}
        axes.annotate(name, (middle, -0.5), ha="center", va="bottom", fontsize=9, **place)
    for row, name in enumerate(panel.row_names):
        middle = row * (num_queries + 1) + (num_queries - 1) / 2
        axes.text(panel.shape[1], middle, name, ha="left", va="center", rotation=270, fontsize=9)
    return image


def _legible(cell_inches: float) -> tuple[float, int]:
    """The font size of labels, and the number of cells from one label to the next."""
    points = 72 * cell_inches * 0.9
    return float(np.clip(points, SMALLEST_FONT, LARGEST_FONT)), max(1, int(np.ceil(SMALLEST_FONT / points)))


def _label(token: str, fonts: Fonts) -> str:
    """A token as it is drawn: a dot where a word begins, and a box for a character that no font can draw."""
    text = LONE_BEGIN if token == WORD_BEGIN else token.replace(WORD_BEGIN, "\u00b7")
    text = text if len(text) <= LONGEST_LABEL else text[: LONGEST_LABEL - 1] + "\u2026"
    return _drawable(text, fonts)


def _drawable(text: str, fonts: Fonts) -> str:
    """A text with a box for each character that no font can draw."""
    return "".join(mark if mark.isprintable() and mark not in fonts.missing else MISSING for mark in text)
