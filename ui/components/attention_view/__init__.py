"""Attention of one layer's heads over a text: matrices, shading and arcs, all drawn in the browser."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st

from attention.tiny.numpy_forward import Maps
from attention.tiny.text import (
    glyphs,
    name_of,
    pack,
    predictions,
)
from ui.components.component import component
from viz.theme import kv_color

_component = component(Path(__file__).parent)


def attention_view(
    maps: Maps,
    text: bytes,
    layer: int,
    n_kv_heads: int,
    roles: Sequence[str],
    shown: Sequence[int],
    chosen: int | None,
    *,
    key: str,
    on_look: Callable[[int | None, list[int] | None], None],
) -> None:
    """Draw a layer of a byte model.

    Args:
        maps: attention maps and predictions of `text`.
        layer: from 0.
        roles: a role's name for each query head, "" for none.
        shown: heads whose arcs are drawn.
        chosen: index of the byte whose attention is drawn; None for a byte that shows something.
        on_look: called with the byte and the heads that the visitor has chosen; None for one that has not changed.
    """
    view = View(
        packed=pack(maps.attention[layer]),
        glyphs=glyphs(text),
        names=[name_of(byte) for byte in text],
        predictions=predictions(maps, text),
        unit="byte",
        n_kv_heads=n_kv_heads,
        columns=4,
    )
    draw(view, roles, shown, _start(text) if chosen is None else chosen, key=key, on_look=on_look)


class View(NamedTuple):
    """One layer's heads over a text.

    Attributes:
        packed: base64 of one byte per visible weight w, round(255 · √w): head by head, row by row.
        glyphs: each part of the text as it is drawn. names: the same parts as sentences name them.
        predictions: for each part {"top": [[name, share], …], "next": [name, share] or None}.
        unit: the kind of part, "byte" or "token".
        columns: number of heads side by side.
    """

    packed: str
    glyphs: Sequence[str]
    names: Sequence[str]
    predictions: Sequence[Mapping[str, Any]]
    unit: str
    n_kv_heads: int
    columns: int


def draw(
    view: View,
    roles: Sequence[str],
    shown: Sequence[int],
    start: int,
    *,
    key: str,
    on_look: Callable[[int | None, list[int] | None], None],
) -> None:
    """Draw a layer of any model.

    Args:
        roles: a role's name for each query head, "" for none.
        shown: heads whose arcs are drawn.
        start: index of the part whose attention is drawn.
        on_look: called with the part and the heads that the visitor has chosen; None for one that has not changed.
    """
    n_heads, n = len(roles), len(view.glyphs)
    group_size = n_heads // view.n_kv_heads
    told = f"_{key}_told"

    def look() -> None:
        said = st.session_state[key].get("look")
        if not isinstance(said, Mapping) or not isinstance(said.get("n"), int):
            return
        st.session_state[told] = said["n"]
        byte, heads = said.get("byte"), said.get("heads")
        known = (
            sorted({h for h in heads if isinstance(h, int) and 0 <= h < n_heads}) if isinstance(heads, list) else None
        )
        on_look(byte if isinstance(byte, int) and 0 <= byte < n else None, known)

    _component(
        key=key,
        on_look_change=look,
        data={
            "key": hashlib.sha256("\0".join([view.packed, *view.glyphs]).encode()).hexdigest()[:16],
            "n": n,
            "unit": view.unit,
            "columns": view.columns,
            "glyphs": list(view.glyphs),
            "names": list(view.names),
            "maps": view.packed,
            "predictions": list(view.predictions),
            "start": start,
            "told": st.session_state.get(told, 0),
            "shown": list(shown),
            "heads": [
                {
                    "kv": head // group_size,
                    "color": kv_color(head // group_size, view.n_kv_heads),
                    "role": roles[head],
                    "alt": f"Attention of head {head}, which reads K/V head {head // group_size}: "
                    f"rows are {view.unit}s, columns the {view.unit}s they look at.",
                }
                for head in range(n_heads)
            ],
        },
    )


def _start(text: bytes) -> int:
    """The byte that is chosen at first: the last closing bracket, otherwise the last byte that is no blank."""
    for wanted in (b")]}", None):
        for at in range(len(text) - 1, 0, -1):
            if text[at] in wanted if wanted else not text[at : at + 1].isspace():
                return at
    return len(text) - 1
