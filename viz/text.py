"""Text from outside in a figure: the one place where it is made plain."""

from __future__ import annotations

import html

from attention.foreign_text import seen


def plain(text: str, most: int = 80) -> str:
    """`text` as it reads: Plotly takes ``<a href=…>``, ``<b>`` and entities in any name, label or hover text as markup,
    ``$…$`` as LaTeX and ``%{…}`` as a place to fill."""
    return html.escape(seen(text, most), quote=False).replace("$", "&#36;").replace("%{", "%&#123;")
