"""The lecture view (``?present=true``): the views of the path one after another, by arrow keys or a presenter's
clicker; at the end a QR code of the site's address."""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import segno
import streamlit as st

from attention import settings
from ui.components.component import component
from ui.components.path import stops
from ui.params import PRESENT, VERSION

END = "about"
"""The page that shows the QR code; it comes after the last page of the path."""
STEPS: dict[str, tuple[tuple[tuple[str, str], ...], ...]] = {
    "explore": tuple((("e_kv", n), ("context", "131072")) for n in ("32", "0", "1")),
    "why": tuple((("batch", n), ("context", "32768"), ("why_acc", "b200")) for n in ("1", "8", "32")),
    "heads": tuple((("h_step", n),) for n in ("0", "1", "2", "3")),
    "spectrum": tuple((("spec_kv", n), ("context", "131072")) for n in ("32", "0", "1")),
    "code": tuple((("code_step", step),) for step in ("MHA → MQA", "MQA → GQA")),
}
"""Page -> its states, each as address keys. Any other page has one state: the view at which the path opens it."""


class View(NamedTuple):
    """One state of the lecture: the page's key and label, its address, and the address keys of this state."""

    page: str
    label: str
    address: str
    query: tuple[tuple[str, str], ...]


@cache
def views() -> tuple[View, ...]:
    """All states of the lecture in order; addresses are relative, as on the path."""
    found = (
        View(stop.page, label, _address(to, query), query)
        for stop, label, to in stops()
        for query in STEPS.get(stop.page, (stop.query,))
    )
    return (*found, View(END, "The end", _address(END, ()), ()))


def _address(to: str, query: tuple[tuple[str, str], ...]) -> str:
    return f"{to.partition('?')[0]}?{urlencode([('v', VERSION), *query, (PRESENT.key, 'true')])}"


def place(page: str, values: Mapping[str, Any]) -> int | None:
    """Index in ``views()`` of the page's state whose keys agree best with `values`; None for a page without states."""
    own = [(i, view.query) for i, view in enumerate(views()) if view.page == page]

    def agree(at: tuple[int, tuple[tuple[str, str], ...]]) -> int:
        return sum(str(values.get(key)) == value for key, value in at[1])

    return max(own, key=lambda at: (agree(at), -at[0]))[0] if own else None


_component = component(Path(__file__).parent, html='<nav class="hs-lecture" aria-label="Lecture"></nav>', apart=False)


def lecture(page: str, values: Mapping[str, Any]) -> None:
    """Draw the bar with the links back, on and out of the lecture, and on the last page the QR code.

    Args:
        page: the page's key.
        values: address key -> value, the page's own keys and the shared ones.
    """
    at = place(page, values)
    all_of_them = views()
    before = None if not at else all_of_them[at - 1]
    after = all_of_them[0 if at is None else at + 1] if at is None or at + 1 < len(all_of_them) else None
    number = "" if at is None else f"{at + 1} / {len(all_of_them)}"
    _component(
        key="lecture",
        data={
            "back": before and [before.label, before.address],
            "next": after and [after.label, after.address],
            "place": number,
            "at": -1 if at is None else at,
            "addresses": [view.address for view in all_of_them],
        },
    )
    if page == END:
        _closing(settings.load().public_url or site(str(st.context.url or "")))


def site(url: str) -> str:
    """The site's address, from a page's address in the browser: all pages have the same parent. "" if there is none."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rpartition('/')[0]}/" if parts.netloc else ""


@lru_cache(maxsize=64)
def code(address: str) -> str:
    """The QR code of an address (ISO/IEC 18004, level M) as a data URI of an SVG, dark on white.

    Raises:
        ValueError: the address is longer than a code of any size can hold.
    """
    return segno.make(address, error="m", micro=False).svg_data_uri(scale=8, border=3, dark="#04181d", light="#ffffff")


def _closing(address: str) -> None:
    if address:
        shown = html.escape(address)
        image = f'<img src="{html.escape(code(address))}" alt="QR code of {shown}">'
        st.html(f'<div class="hs-closing">{image}<p>Go on by yourself:<br><b>{shown}</b></p></div>')
