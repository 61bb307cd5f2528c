"""All models of the catalogue: cache over size, coloured by sharing."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

import plotly.graph_objects as go

from attention.memory.model_points import ModelPoint
from attention.spec import Kind
from attention.units import binary_bytes, counted, parameters
from viz import figure, theme
from viz.text import plain


def plot_models(points: Sequence[ModelPoint], context: int, chosen: str | None = None) -> go.Figure:
    """Cache bytes over parameters, both logarithmic; the chosen model has its name."""
    title = f"Cache at {counted(context, 'token')}, 16 bit"
    shown = [p for p in points if p.cache_bytes]
    if not shown:
        return theme.empty(title)
    few, many = min(p.n_parameters for p in shown), max(p.n_parameters for p in shown)
    ticks = [10.0**e for e in range(6, 15) if few / 3 <= 10**e <= many * 3]
    low, high = min(p.cache_bytes for p in shown), max(p.cache_bytes for p in shown)
    found = next((p for p in shown if p.id == chosen), None)
    traces = [_markers(name, [p for p in shown if p.sharing == name]) for name in ("MHA", "GQA", "MQA", "MLA", "none")]
    return figure.figure(
        [trace for trace in traces if trace["x"]],
        height=420,
        x={
            "type": "log", "title": figure.title("Parameters"), "range": [log10(few / 1.6), log10(many * 1.6)],
            "tickvals": ticks, "ticktext": [parameters(int(t)) for t in ticks],
        },
        y=figure.bytes_axis(low / 1.6, high * 1.6, "KV cache", log=True),
        annotations=[_name(found)] if found else [],
        title=figure.title(title),
        # space for a legend of two rows: Plotly does not add it when the window becomes narrow
        margin={"t": 82, "r": 16},
        showlegend=True,
    )  # fmt: skip


def _markers(sharing: str, points: Sequence[ModelPoint]) -> figure.Part:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": sharing if sharing != "none" else "no attention",
        "x": [p.n_parameters for p in points],
        "y": [p.cache_bytes for p in points],
        "marker": {
            "size": 9,
            "color": {**theme.SHARING_COLORS, "none": theme.KIND_COLORS[Kind.RECURRENT]}[sharing],
            "opacity": 0.8,
        },
        "customdata": [
            f"{plain(p.label)} ({p.released})<br>{parameters(p.n_parameters)} parameters, {binary_bytes(p.cache_bytes)}"
            for p in points
        ],
        "hovertemplate": f"%{{customdata}}<extra>{sharing}</extra>",
    }


def _name(point: ModelPoint) -> figure.Part:
    return {
        "x": log10(point.n_parameters), "y": log10(point.cache_bytes), "text": plain(point.label),
        "showarrow": True, "arrowhead": 0, "arrowcolor": theme.NEUTRAL, "ax": -30, "ay": -34,
    }  # fmt: skip
