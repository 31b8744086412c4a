"""Figures hold the weights that they were given, name what they show, and bear any text."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from lit_transformer.analysis import figures
from lit_transformer.analysis.entropy import normalized_head_entropy
from lit_transformer.analysis.maps import KINDS, Kind, maps_of
from lit_transformer.analysis.rollout import rollout
from lit_transformer.analysis.words import in_words
from lit_transformer.decoding.attention import Attention
from lit_transformer.errors import UserError
from tests.helpers.attentions import HOSTILE, SOURCE, one_stack, pixels, random_attention, same_picture

SOURCE_LABELS = ["·The", "·cat", "·sle", "eps", ".", "</s>"]
TARGET_LABELS = ["·Die", "·Katze", "·schläft", ".", "</s>"]


@pytest.fixture(scope="module")
def attention() -> Attention:
    return random_attention()


def drawn(figure: Figure) -> np.ndarray:
    """What the first axes show, nan where they are white."""
    [image] = figure.axes[0].images
    shown: Any = image.get_array()
    # The color scale ends at the largest weight.
    np.testing.assert_allclose(image.get_clim(), (0.0, np.nanmax(shown)))
    return np.ma.filled(shown, np.nan)


def labels(figure: Figure) -> tuple[list[str], list[str]]:
    axes = figure.axes[0]
    return [text.get_text() for text in axes.get_yticklabels()], [text.get_text() for text in axes.get_xticklabels()]


def num_pixels(figure: Figure) -> float:
    return float(np.prod(figure.get_size_inches() * figure.dpi))


def test_one_head(attention: Attention) -> None:
    figure = figures.head_map(attention, "cross", layer=1, head=2)
    np.testing.assert_array_equal(drawn(figure), attention.cross[1][2])
    assert figure.axes[0].get_title() == "cross, layer 2, head 3"
    # Rows are the tokens that are predicted, not those that are read.
    assert labels(figure) == (TARGET_LABELS, SOURCE_LABELS)


def test_what_a_decoder_position_may_not_attend_to_is_white(attention: Attention) -> None:
    figure = figures.head_map(attention, "decoder", layer=0, head=1)
    weights = drawn(figure)
    np.testing.assert_array_equal(np.isnan(weights), np.triu(np.ones((5, 5), dtype=bool), k=1))
    np.testing.assert_array_equal(np.nan_to_num(weights), attention.decoder[0][1])
    assert labels(figure) == (["<s>", *TARGET_LABELS[:-1]],) * 2


@pytest.mark.parametrize("kind", KINDS)
def test_all_heads(attention: Attention, kind: Kind) -> None:
    figure = figures.head_grid(attention, kind)
    maps = maps_of(attention, kind)
    num_queries, num_keys = len(maps.queries), len(maps.keys)
    mosaic = drawn(figure)
    assert mosaic.shape == (2 * num_queries + 1, 3 * num_keys + 2)
    for layer, heads in maps.layers.items():
        for head, weights in enumerate(heads):
            top, left = layer * (num_queries + 1), head * (num_keys + 1)
            part = mosaic[top : top + num_queries, left : left + num_keys]
            np.testing.assert_array_equal(np.nan_to_num(part), weights)
    assert np.isnan(mosaic[num_queries]).all()
    rows, columns = labels(figure)
    assert len(rows) == 2 * num_queries
    assert len(columns) == 3 * num_keys
    # The first label of the second map stands at its first row and column.
    assert figure.axes[0].get_yticks()[num_queries] == num_queries + 1
    assert figure.axes[0].get_xticks()[num_keys] == num_keys + 1
    assert [text.get_text() for text in figure.axes[0].texts] == ["head 1", "head 2", "head 3", "layer 1", "layer 2"]


def test_some_layers_keep_their_numbers(attention: Attention) -> None:
    maps: dict[str, Any] = {kind: {1: getattr(attention, kind)[1]} for kind in KINDS}
    second = replace(attention, **maps)
    figure = figures.head_grid(second, "cross")
    np.testing.assert_array_equal(drawn(figure)[:, : len(SOURCE)], attention.cross[1][0])
    assert figure.axes[0].texts[-1].get_text() == "layer 2"
    assert [label.get_text() for label in figures.entropy_map(second).axes[0].get_yticklabels()] == ["2"]


def test_layer_means(attention: Attention) -> None:
    figure = figures.layer_means(attention, "encoder")
    mosaic = drawn(figure)
    for layer, weights in attention.encoder.items():
        left = layer * (len(SOURCE) + 1)
        np.testing.assert_allclose(mosaic[:, left : left + len(SOURCE)], weights.mean(axis=0), rtol=1e-6)
    assert [text.get_text() for text in figure.axes[0].texts] == ["layer 1", "layer 2"]


def test_all_kinds_in_one_figure(attention: Attention) -> None:
    for figure in (
        figures.head_map(attention, "all", layer=1, head=2),
        figures.head_grid(attention, "all"),
        figures.layer_means(attention, "all"),
        figures.rollout_map(attention, "all"),
    ):
        *panels, bar = figure.axes
        assert [axes.get_title().partition(",")[0] for axes in panels] == list(KINDS)
        names = [("source", "source"), ("target", "target"), ("target", "source")]
        for axes, (query, key) in zip(panels, names, strict=True):
            assert query in axes.get_ylabel()
            assert key in axes.get_xlabel()
        # One scale for all.
        assert len({axes.images[0].get_clim() for axes in panels}) == 1
        assert bar.get_ylabel()


def test_the_sentence_and_its_translation_are_written_out(attention: Attention) -> None:
    for shown in (attention, in_words(attention)):
        [source, target] = figures.head_grid(shown, "cross").texts[0].get_text().split("\n")
        assert source.endswith("The cat sleeps.")
        assert target.endswith("Die Katze schläft.")


@pytest.mark.parametrize("kind", ["cross", "all"])
def test_a_figure_has_the_size_that_is_asked_for(attention: Attention, kind: Any) -> None:
    for size in ((12.8, 7.2), (5.0, 8.0)):
        figure = figures.layer_means(attention, kind, size=size)
        assert tuple(figure.get_size_inches()) == size
        assert pixels(figure).shape[:2] == tuple(int(side * figure.dpi) for side in size[::-1])
    with pytest.raises(UserError, match=r"size is 2\.0 x 1\.0"):
        figures.layer_means(attention, kind, size=(2.0, 1.0))


def test_rollout_and_entropy(attention: Attention) -> None:
    figure = figures.rollout_map(attention, "cross")
    np.testing.assert_array_equal(drawn(figure), rollout(attention).cross_TS)
    assert labels(figure) == (TARGET_LABELS, SOURCE_LABELS)
    figure = figures.entropy_map(attention)
    assert [axes.get_title() for axes in figure.axes[:3]] == list(KINDS)
    for axes, kind in zip(figure.axes, KINDS, strict=False):
        layers = maps_of(attention, kind).layers
        expected = [normalized_head_entropy(weights, kind) for weights in layers.values()]
        np.testing.assert_array_equal(axes.images[0].get_array(), expected)
        assert axes.texts[0].get_text() == f"{expected[0][0]:.2f}"


@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_any_text_is_drawn_as_it_is_written(tmp_path: Path, format: str) -> None:
    """Warnings are errors: neither a missing glyph nor half a formula raises one."""
    hostile = random_attention(HOSTILE, HOSTILE[::-1], num_layers=1)
    figures.save(figures.head_grid(hostile, "encoder"), tmp_path / "picture", format=format, dpi=100)
    for name in ("picture", "again"):
        figures.save(figures.head_map(hostile, "cross", layer=0, head=0), tmp_path / name, format=format, dpi=100)
    written = (tmp_path / "picture").read_bytes()
    assert written.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[format])
    assert (tmp_path / "again").read_bytes() == written
    if format == "svg":
        assert ElementTree.fromstring(written).tag == "{http://www.w3.org/2000/svg}svg"
    rows, _ = labels(figures.head_map(hostile, "encoder", layer=0, head=0))
    assert rows[5:8] == ["·$\\frac{", "$x$_a^b", "␣"]
    assert rows[8:10] == ["□□□□", "□tfel"]
    assert rows[15] == "x" * 15 + "…"


def test_pictures_of_long_sentences_stay_small() -> None:
    words = [f"\u2581token{number}" for number in range(230)]
    attention = random_attention(words, words, num_layers=1, num_heads=2)
    for figure in (figures.head_map(attention, "cross", layer=0, head=0), figures.head_grid(attention, "decoder")):
        assert num_pixels(figure) < 8_000_000
    very_long = np.zeros((1000, 900), dtype=np.float32)
    tokens = ["token"] * 1000
    figure = figures.weight_map(very_long, tokens, tokens[:900], title="long")
    assert num_pixels(figure) < 8_000_000
    rows, columns = labels(figure)
    # As many labels as can be read, each at its own token.
    assert 100 < len(rows) <= 500
    assert len(columns) < len(rows)
    assert figure.axes[0].get_yticks()[1] == round(1000 / len(rows))


def test_a_picture_shows_its_weights() -> None:
    """The colours of 0 and 1 are at either end of the colour map."""
    weights = np.zeros((2, 2), dtype=np.float32)
    weights[0, 1] = 1.0
    image = pixels(figures.weight_map(weights, ["a", "b"], ["c", "d"], title="two"))
    for color in ((68, 1, 84), (253, 231, 36), (255, 255, 255)):
        assert np.abs(image - color).max(axis=-1).min() <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_that_is_drawn_again_is_the_one_drawn_afresh(attention: Attention, kind: Kind) -> None:
    reversed_maps: dict[str, Any] = {
        name: {layer: maps[:, ::-1] for layer, maps in getattr(attention, name).items()} for name in KINDS
    }
    other = replace(attention, **reversed_maps)
    live = figures.LiveMeanMap(attention, kind)
    for one in (attention, other, attention):
        assert same_picture(live.pixels(one), pixels(figures.mean_map(one, kind)))
    assert not same_picture(live.pixels(other), live.pixels(attention))


def test_what_is_not_there(attention: Attention) -> None:
    with pytest.raises(UserError, match=r"no layer 3.*of layer 1, 2, counted from 1"):
        figures.head_map(attention, "cross", layer=2, head=0)
    for head in (3, -1):
        with pytest.raises(UserError, match=rf"no head {head + 1}.*has 3"):
            figures.head_map(attention, "cross", layer=1, head=head)
    with pytest.raises(UserError, match="at least one layer"):
        figures.head_grid(replace(attention, encoder={}, decoder={}, cross={}), "cross")
    # The shortest sentence is one that is empty.
    for kind in KINDS:
        pixels(figures.head_grid(random_attention(["</s>"], ["</s>"]), kind))


def test_nothing_global_is_touched() -> None:
    """Neither drawing nor a notebook brings pyplot, and translating does not bring matplotlib at all."""
    program = (
        "from lit_transformer import Translator; import sys; assert 'matplotlib' not in sys.modules;"
        "from lit_transformer.analysis import figures; import numpy;"
        "assert figures.weight_map(numpy.eye(2), 'ab', 'cd', title='')._repr_png_().startswith(b'\\x89PNG');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_model_of_one_stack_has_pictures_of_one_kind() -> None:
    bert, gpt = one_stack("encoder"), one_stack("decoder")
    for attention, kind in ((bert, "encoder"), (gpt, "decoder")):
        for figure in (
            figures.head_grid(attention, "all"),
            figures.layer_means(attention, "all"),
            figures.rollout_map(attention, "all"),
            figures.entropy_map(attention),
            figures.head_map(attention, "all", layer=0, head=1),
        ):
            titles = " ".join(axes.get_title() for axes in figure.axes)
            assert (kind in titles, "cross" in titles) == (True, False)
        [image] = figures.entropy_map(attention).axes[0].images
        expected = [normalized_head_entropy(maps, kind) for maps in maps_of(attention, kind).layers.values()]  # type: ignore[arg-type]
        np.testing.assert_allclose(np.asarray(image.get_array()), expected)
        with pytest.raises(UserError, match=f"cross.* {kind}"):
            figures.head_grid(attention, "cross")
    assert figures.head_map(bert, "encoder", layer=0, head=0).axes[0].get_ylabel().startswith("text")
