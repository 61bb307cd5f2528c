"""Attention of one layer's heads over a text: matrices, shading and arcs, all on the browser's side."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

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
    """Draw a layer.

    Args:
        maps: of `text`.
        layer: 0-based.
        roles: per head, what it is called ("" for nothing).
        shown: heads whose arcs are drawn.
        chosen: the byte looked from; None for one that is worth it.
        on_look: called with the byte and the heads a visitor has chosen, None for what stays as it is.
    """
    attention = maps.attention[layer]
    n_heads = len(attention)
    packed = pack(attention)
    group_size = n_heads // n_kv_heads
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
        on_look(byte if isinstance(byte, int) and 0 <= byte < len(text) else None, known)

    _component(
        key=key,
        on_look_change=look,
        data={
            "key": hashlib.sha256(packed.encode()).hexdigest()[:16],
            "n": len(text),
            "glyphs": glyphs(text),
            "names": [name_of(byte) for byte in text],
            "maps": packed,
            "predictions": predictions(maps, text),
            "start": _start(text) if chosen is None else chosen,
            "told": st.session_state.get(told, 0),
            "shown": list(shown),
            "heads": [
                {
                    "kv": head // group_size,
                    "color": kv_color(head // group_size, n_kv_heads),
                    "role": roles[head],
                    "alt": f"Attention of head {head}, which reads K/V head {head // group_size}: "
                    f"rows are bytes, columns the bytes they look at.",
                }
                for head in range(n_heads)
            ],
        },
    )


def _start(text: bytes) -> int:
    """A byte worth looking at first: the last closing bracket, else the last byte that is no blank."""
    for wanted in (b")]}", None):
        for at in range(len(text) - 1, 0, -1):
            if text[at] in wanted if wanted else not text[at : at + 1].isspace():
                return at
    return len(text) - 1
