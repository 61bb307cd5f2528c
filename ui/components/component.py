"""Declares the components in HTML, CSS and JavaScript that stand in a folder of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

_HERE = Path(__file__).parent


def component(
    folder: Path,
    *,
    html: str | None = None,
    saves: bool = False,
    apart: bool = True,
    layout: bool = False,
    plays: bool = False,
) -> Any:
    """What draws the component of `folder`: ``NAME.html``, ``NAME.css`` and ``NAME.js`` in a folder NAME.

    Args:
        html: in place of ``NAME.html``.
        apart: in a tree of its own, where no other style sheet reaches it.
        saves: its script has ``offerSave`` of ``save_picture.js``.
        layout: its script has what ``layout.js`` of its folder defines.
        plays: it is a picture in steps: its script hands a sketch to ``createPicture`` of ``moving_picture.js``, which
            plays, pauses and scrubs it; its HTML is the one all such pictures have.
    """

    def part(kind: str, where: Path = folder, name: str = folder.name) -> str:
        return (where / f"{name}.{kind}").read_text(encoding="utf-8")

    css, js = part("css"), part("js")
    if layout:
        js = part("js", name="layout") + js
    if plays:
        css = part("css", _HERE, "moving_picture") + css
        js = part("js", _HERE, "moving_picture") + js
        html = part("html", _HERE, "moving_picture")
    if saves:
        css += part("css", _HERE, "save_picture")
        js = part("js", _HERE, "save_picture") + js
    return st.components.v2.component(
        f"headshare_{folder.name}",
        html=part("html") if html is None else html,
        css=css,
        js=js,
        isolate_styles=apart,
    )
