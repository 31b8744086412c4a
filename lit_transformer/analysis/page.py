"""Attention as one HTML page to point and click in: it asks for nothing from outside, in a notebook as in a file.

The text of a page is data: it stands in a block of JSON that no text can end, and becomes text again, never HTML. The
page forbids its browser every request and every script but its own.
"""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from string import Template

from lit_transformer.analysis.maps import as_json
from lit_transformer.decoding.attention import Attention
from lit_transformer.errors import UserError

DIGITS = 4
"""Of a weight; a page shows three of them."""
_ESCAPED = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&"})
"""What HTML reads; `json.dumps` has escaped all that is not ASCII."""


class Page:
    """A page of one or more sentences; as the last value of a notebook's cell it shows itself.

    Args:
        attentions: Each sentence's attention, with the same layers.
    """

    def __init__(self, attentions: Sequence[Attention]) -> None:
        if not attentions:
            raise UserError("a page needs the attention of at least one sentence")
        data = json.dumps([as_json(each, digits=DIGITS) for each in attentions], separators=(",", ":"))
        style, script = _part("page.css"), _part("page.js")
        self.html = Template(_part("page.html")).substitute(
            style=style,
            style_hash=_hash(style),
            script=script,
            script_hash=_hash(script),
            data=data.translate(_ESCAPED),
        )
        """The whole page."""
        self._tokens = max(max(len(each.source), len(each.target_input)) for each in attentions)
        self._layers = len(attentions[0].cross)

    def _repr_html_(self) -> str:
        # A frame of its own, so that several pages share a notebook, and a sandbox that keeps it from the notebook.
        height = min(300 + 27 * self._tokens + 52 * self._layers, 900)
        return (
            f'<iframe srcdoc="{html.escape(self.html)}" sandbox="allow-scripts" title="Attention" '
            f'style="width: 100%; height: {height}px; border: 0"></iframe>'
        )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _part(name: str) -> str:
    return files("lit_transformer.analysis").joinpath(name).read_text(encoding="utf-8")
