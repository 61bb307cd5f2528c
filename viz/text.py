"""Text from outside in a figure: the one place where it is made plain."""

from __future__ import annotations

import html
import re

_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str, most: int = 80) -> str:
    """`text` as it reads: Plotly takes ``<a href=…>``, ``<b>`` and entities in any name, label or hover text as markup,
    and characters that turn the reading direction can rewrite what stands beside them."""
    shown = _UNSEEN.sub("·", text)
    return html.escape(shown if len(shown) <= most else f"{shown[:most]}…", quote=False)
