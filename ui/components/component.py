"""Declares a component in HTML, CSS and JavaScript; each component has its own folder."""

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
    """The function that draws the component of `folder`: ``NAME.html``, ``NAME.css`` and ``NAME.js`` in a folder NAME.

    Args:
        html: HTML to use in place of ``NAME.html``.
        apart: put the component into a shadow tree, where the page's style sheets do not reach it.
        saves: put ``save_picture.js`` before its script, so that the script can call ``offerSave``.
        layout: put ``layout.js`` of the same folder before its script.
        plays: the component is a picture in steps. Its script gives a sketch to ``pictureOf`` of
            ``moving_picture.js``, which plays and pauses it and moves it to a step. All such pictures have one HTML.
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
