"""Attention of one layer's heads over a text: matrices, shading and arcs, all on the browser's side."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from attention.tiny_maps import Maps
from attention.tiny_view import glyphs, name_of, pack, predictions
from ui.component import component
from viz.theme import kv_color

_component = component(Path(__file__).parent)


def attention_view(
    maps: Maps, text: bytes, layer: int, n_kv_heads: int, roles: Sequence[str], shown: Sequence[int], *, key: str
) -> None:
    """Draw a layer.

    Args:
        maps: of `text`.
        layer: 0-based.
        roles: per head, what it is called ("" for nothing).
        shown: heads whose arcs are drawn at first.
    """
    attention = maps.attention[layer]
    n_heads = len(attention)
    packed = pack(attention)
    group_size = n_heads // n_kv_heads
    _component(
        key=key,
        data={
            "key": hashlib.sha256(packed.encode()).hexdigest()[:16],
            "textKey": hashlib.sha256(text).hexdigest()[:16],
            "n": len(text),
            "glyphs": glyphs(text),
            "names": [name_of(byte) for byte in text],
            "maps": packed,
            "predictions": predictions(maps, text),
            "start": _start(text),
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
