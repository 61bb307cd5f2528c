"""MHA, the model and MQA side by side: bars of bytes, and bars of measured time."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attention.sharing import Way, WayTime
from attention.units import binary_bytes, duration, ratio
from viz import build
from viz.theme import ACCENT_MID, SHARING_COLORS, empty

_ROW = 38


def _bars(
    rows: Sequence[Way | WayTime], values: list[float], texts: list[str], spread: list[float] | None = None
) -> go.Figure:
    labels = [f"<b>{row.label}</b>" if row.is_model else row.label for row in rows]
    colors = [SHARING_COLORS.get(row.label.partition("-")[0], ACCENT_MID) for row in rows]
    deltas = spread or [0.0] * len(values)
    # an annotation beyond the axis would not be drawn
    largest = max(1e-12, *(value + delta for value, delta in zip(values, deltas, strict=True)))
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": values,
        "y": labels,
        "marker": {"color": colors, "cornerradius": 3},
        "error_x": {"array": spread, "thickness": 1.2, "width": 3} if spread else None,
        "cliponaxis": False,
        "hoverinfo": "skip",
    }
    return build.figure(
        [bars],
        height=_ROW * len(labels) + 12,
        # room for the text beside the longest bar
        x={"visible": False, "range": [0, largest * 1.55]},
        y={"autorange": "reversed", "showgrid": False, "ticklen": 6},
        annotations=[
            {"x": value + delta, "y": label, "text": text, "showarrow": False, "xanchor": "left", "xshift": 6,
             "font": {"size": 13}}
            for label, value, text, delta in zip(labels, values, texts, deltas, strict=True)
        ],
        margin={"l": 8, "r": 4, "t": 4, "b": 4},
        bargap=0.38,
    )  # fmt: skip


def plot_ways(rows: Sequence[Way]) -> go.Figure:
    """Bars of cache bytes; the model's own name is bold."""
    if not rows:
        return empty("Cache")
    return _bars(
        rows,
        [float(row.state_bytes) for row in rows],
        [binary_bytes(row.state_bytes) for row in rows],
    )


def plot_times(rows: Sequence[WayTime]) -> go.Figure:
    """Bars of measured time per decode step with their interquartile range; rows without a time yet stay empty."""
    if not rows:
        return empty("Decode time")
    slowest = rows[0].median_s
    texts = []
    for row in rows:
        if row.median_s is None:
            texts.append("…")
            continue
        faster = f" · {ratio(slowest / row.median_s)} as fast" if slowest and row is not rows[0] else ""
        texts.append(f"<b>{duration(row.median_s)}</b>{faster}")
    return _bars(
        rows,
        [row.median_s or 0.0 for row in rows],
        texts,
        [(row.iqr_s or 0.0) / 2 for row in rows],
    )
