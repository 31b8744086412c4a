"""Attention as one interactive HTML page, for a file or a notebook.

The page loads nothing from elsewhere: its Content-Security-Policy forbids every request, and every script but its own.
Sentences are data. They are escaped inside a block of JSON, and the script inserts them as text, never as HTML.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template
from textwrap import shorten

from lit_transformer.analysis.maps import as_json, kinds_of, maps_of, texts_of
from lit_transformer.decoding.attention import Attention
from lit_transformer.errors import UserError

DIGITS = 4
"""Digits of a weight in the data. The page shows three of them."""
TITLE_CHARACTERS = 80
_ESCAPED = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&"})
"""The characters that have a meaning in HTML. `json.dumps` escapes everything that is not ASCII."""


class Page:
    """A page of one or more sentences. A notebook shows it if it is the last value of a cell.

    Args:
        attentions: The attention weights of each sentence, all with the same layers.

    Raises:
        UserError: If there is no sentence.
    """

    def __init__(self, attentions: Sequence[Attention]) -> None:
        if not attentions:
            raise UserError("a page needs the attention of at least one sentence")
        data = json.dumps([as_json(each, digits=DIGITS) for each in attentions], separators=(",", ":"))
        style, script = _part("page.css"), _part("page.js")
        self.html = Template(_part("page.html")).substitute(
            title=html.escape(_title(attentions[0])),
            style=style,
            style_hash=_hash(style),
            script=script,
            script_hash=_hash(script),
            data=data.translate(_ESCAPED),
        )
        """The whole page."""
        self._tokens = max(max(len(each.source), len(each.target_input)) for each in attentions)
        self._layers = len(maps_of(attentions[0], kinds_of(attentions[0])[0]).layers)

    def _repr_html_(self) -> str:
        # In a frame, so that a notebook can have several pages. The sandbox keeps the page from the notebook.
        height = min(400 + 27 * self._tokens + 52 * self._layers, 900)
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" sandbox="allow-scripts" title="Attention" '
            f'style="width: 100%; height: {height}px; border: 0"></iframe>'
        )


def _title(attention: Attention) -> str:
    """The name of the page's tab and of a bookmark."""
    return shorten(f"Attention: {next(iter(texts_of(attention).values()))}", TITLE_CHARACTERS, placeholder=" \u2026")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _part(name: str) -> str:
    return files("lit_transformer.analysis").joinpath(name).read_text(encoding="utf-8")
