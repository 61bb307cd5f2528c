"""Two small figures beside a cache: the same model shared otherwise, and what an engine sets aside."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attention.allocation import Step
from attention.breakdown import Variant
from attention.units import binary_bytes, ratio
from viz import build, theme

_ADDED, _SAVED = "#E69F00", "#009E73"


def plot_variants(rows: Sequence[Variant], *, height: int = 250) -> go.Figure:
    """The same model with other numbers of K/V heads, one bar each; the others paler."""
    if not any(row.state_bytes for row in rows):
        return theme.empty("The same model, shared otherwise", "This model keeps nothing per sequence.", height)
    own = next((row.state_bytes for row in rows if row.is_model), 0)
    colors = theme.SHARING_COLORS
    bar = {
        "type": "bar",
        "orientation": "h",
        "y": [f"<b>{row.label}</b>" if row.is_model else row.label for row in rows],
        "x": [row.state_bytes for row in rows],
        "marker": {
            "color": [colors.get(row.label.split("-")[0], theme.ACCENT) for row in rows],
            "opacity": [1.0 if row.is_model else 0.4 for row in rows],
        },
        "text": [_beside(row, own) for row in rows],
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "skip",
    }
    return _bars(bar, max(row.state_bytes for row in rows), height)


def _beside(row: Variant, own: int) -> str:
    size = binary_bytes(row.state_bytes)
    return f"{size}, this model" if row.is_model or not own else f"{size} · {ratio(row.state_bytes / own)}"


def plot_allocation(steps: Sequence[Step], *, height: int = 250) -> go.Figure:
    """Waterfall from the states' bytes, through what each step adds, to what is set aside."""
    if not steps:
        return theme.empty("What an engine sets aside", height=height)
    before = [0, *(step.bytes_after for step in steps[:-1])]
    added = [step.bytes_after - b for step, b in zip(steps, before, strict=True)]
    total = steps[-1].bytes_after
    fall = {
        "type": "waterfall",
        "orientation": "h",
        "y": [*(step.name for step in steps), "<b>set aside</b>"],
        "x": [*added, total],
        "measure": ["absolute", *["relative"] * (len(steps) - 1), "total"],
        "text": [binary_bytes(added[0]), *(_change(a) for a in added[1:]), f"<b>{binary_bytes(total)}</b>"],
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "skip",
        "connector": {"line": {"color": theme.GHOST, "width": 1}},
        "increasing": {"marker": {"color": _ADDED}},
        "decreasing": {"marker": {"color": _SAVED}},
        "totals": {"marker": {"color": theme.ACCENT}},
    }
    return _bars(fall, max(total, *(step.bytes_after for step in steps)), height)


def _change(n: int) -> str:
    return "+0" if n == 0 else f"+{binary_bytes(n)}" if n > 0 else f"−{binary_bytes(-n)}"


def _bars(trace: dict[str, object], longest: int, height: int) -> go.Figure:
    """Horizontal bars that carry their values: no axis needed, room for the text right of the longest."""
    return build.figure(
        [trace],
        height=height,
        x={"visible": False, "range": [0, longest * 1.5]},
        y={"autorange": "reversed", "showgrid": False, "ticksuffix": " "},
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        bargap=0.3,
    )
