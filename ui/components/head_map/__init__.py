"""The head map: query heads above, the K/V heads that they read below, one colour per K/V head.

When ``n_kv_heads`` changes, the elements on the screen stay the same and the browser moves them: the K/V heads of a
group slide together into the one that the group shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attention.spec import Kind, Layer
from ui.components.component import component
from viz.theme import kv_colors

MOST_HEADS = 256
"""A layer with more query heads is not drawn; no published layer has so many."""

STAGES = ("The map", "1 Project", "2 Append", "3 Read", "4 Output")

_component = component(Path(__file__).parent, saves=True, layout=True)


def describe(n_heads: int, n_kv_heads: int, kind: Kind = Kind.FULL) -> str:
    """What the picture shows, in one sentence."""
    if not n_kv_heads:
        return "This layer keeps no keys and values of its own."
    if kind is Kind.LATENT:
        return f"{n_heads} query heads all read one latent vector per token, from which keys and values are expanded."
    size = n_heads // n_kv_heads
    if size == 1:
        return (
            "1 query head with a K/V head of its own."
            if n_heads == 1
            else f"{n_heads} query heads, each with a K/V head of its own."
        )
    if n_kv_heads == 1:
        return f"{n_heads} query heads all read the one K/V head."
    return f"{n_heads} query heads share {n_kv_heads} K/V heads, {size} to each."


def head_map(
    layer: Layer,
    *,
    key: str,
    n_kv_heads: int | None = None,
    held: float = 1.0,
    stage: int = 0,
    intro: Sequence[int] = (),
) -> None:
    """Draw one layer.

    Args:
        layer: the layer; for a layer without attention a sentence says what it keeps.
        key: stable key of the element.
        n_kv_heads: number of K/V heads to draw in place of the layer's own.
        held: part of the context's positions that the layer's cache holds, in (0, 1].
        stage: the step of decoding to show, an index of ``STAGES``; 0 shows the plain map.
        intro: numbers of K/V heads that the map shows in turn, once, on arrival, before it shows its own; not for
            visitors who asked for less motion. ``ui.components.big_number`` shows the value of each.
    """
    n_heads = layer.n_heads
    kind = layer.kind
    if n_kv_heads is None:
        n_kv_heads = layer.n_kv_heads
    elif kind is Kind.LATENT:
        kind = Kind.FULL
    drawable = 0 < n_heads <= MOST_HEADS and (n_kv_heads > 0 or kind is Kind.SHARED)
    latent_width = 1.0
    state = layer.key_value
    if kind is Kind.LATENT and state is not None:
        # the latent column's width: its elements per token over those of one head's K and V
        latent_width = state.elements_per_position / (layer.k_head_dim + layer.v_head_dim)
    _component(
        key=key,
        data={
            "nHeads": n_heads if drawable else 0,
            "nKv": n_kv_heads or 1,
            "colors": kv_colors(max(n_kv_heads, 1)) if drawable else [],
            "held": max(0.02, min(1.0, held)),
            "stage": stage,
            "latent": kind is Kind.LATENT,
            "latentWidth": latent_width,
            "shared": kind is Kind.SHARED,
            "summary": describe(n_heads, n_kv_heads, kind),
            "hint": _hint(n_heads, n_kv_heads, kind, held),
            "empty": _why_empty(layer),
            "intro": [{"nKv": n, "colors": kv_colors(n)} for n in intro] if drawable else [],
        },
    )


def _why_empty(layer: Layer) -> str:
    if layer.n_heads > MOST_HEADS:
        return f"{layer.n_heads:,} query heads are too many to draw one by one; at most {MOST_HEADS} are."
    if layer.kind is Kind.RECURRENT:
        return "A recurrent layer keeps one state of fixed size: no heads to share, nothing that grows."
    return "This layer has no attention, so it keeps no keys and values."


def _hint(n_heads: int, n_kv_heads: int, kind: Kind, held: float) -> str:
    if kind is Kind.SHARED:
        return "This layer keeps no cache: its query heads read an earlier layer's."
    parts = ["A query head reads the column of its colour, cell by cached cell."]
    if n_kv_heads < n_heads:
        parts.append("Grey: what MHA would keep too.")
    if held < 1:
        parts.append(
            f"Only the last {100 * held:.0f} % of the context is held." if held >= 0.01 else "Only a window is held."
        )
    return " ".join(parts)
