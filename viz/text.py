"""Escapes text from outside before it is put into a figure; this is the only place that does so."""

from __future__ import annotations

import html

from attention.foreign_text import seen


def plain(text: str, most: int = 80) -> str:
    """`text` escaped, so that a figure shows it letter by letter; at most `most` characters of it.

    In any name, label or hover text Plotly takes ``<a href=…>``, ``<b>`` and entities as markup, ``$…$`` as LaTeX and
    ``%{…}`` as a placeholder.
    """
    return html.escape(seen(text, most), quote=False).replace("$", "&#36;").replace("%{", "%&#123;")
