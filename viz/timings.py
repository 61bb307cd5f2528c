"""Figures of timings: dots of one shape, curves over the context, machines side by side. All mark the floors."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

import plotly.graph_objects as go

from attention.timing.views import Bar, Curve
from attention.units import duration, ratio, tokens
from viz import theme
from viz.labels import EndLabel, end_labels
from viz.text import plain

ROW_PX = 34
"""Height of a row in pixels, with the space for a label above its dots."""


def _color(name: str) -> str:
    return theme.SHARING_COLORS[name.partition("-")[0]]


def _gqa_colors(names: Sequence[str]) -> dict[str, str]:
    """A colour for each sharing; a second GQA takes the next spare colour."""
    colors: dict[str, str] = {}
    spare = iter(("#56B4E9", "#009E73", "#7B6BB5", "#8C7A1A", "#CC79A7"))
    for name in names:
        taken = any(other.startswith("GQA") for other in colors)
        colors[name] = next(spare, "#56B4E9") if name.startswith("GQA") and taken else _color(name)
    return colors


def _powers_of_ten(low: float, high: float) -> list[float]:
    """Ticks between two times in seconds: 1, 2 and 5 per decade, or only 1 if they are many."""
    marks = [m * 10.0**e for e in range(-7, 4) for m in (1, 2, 5)]
    inside = [m for m in marks if low <= m <= high]
    return inside if len(inside) <= 8 else [m for m in inside if f"{m:e}"[0] == "1"]


def time_axis(fig: go.Figure, low: float, high: float, axis: str) -> None:
    """Give the figure a logarithmic axis of seconds between two times."""
    ticks = _powers_of_ten(low, high)
    update = fig.update_xaxes if axis == "x" else fig.update_yaxes
    update(type="log", tickvals=ticks, ticktext=[duration(t) for t in ticks], title_text="Time of one step (median)")


def plot_dots(bars: Sequence[Bar], title: str = "", *, rows: str = "Implementation") -> go.Figure:
    """One row for each implementation or machine, one dot for each sharing, and a tick in its colour at its floor.

    Args:
        bars: timings of one shape; an empty sequence gives an empty figure.
        title: what was timed.
        rows: what a row is, for the hover text.
    """
    if not bars:
        return theme.empty(plain(title, 160) or "Timings", "No timing of this shape yet.")
    bars = [bar._replace(name=plain(bar.name)) for bar in bars]
    names = list(dict.fromkeys(bar.name for bar in bars))
    shared = sorted({(bar.n_kv_heads, bar.sharing) for bar in bars}, reverse=True)
    colors = _gqa_colors([name for _, name in shared])
    fig = go.Figure()
    for name in names:
        times = [bar.median_s for bar in bars if bar.name == name]
        fig.add_scatter(
            x=[min(times), max(times)],
            y=[name, name],
            mode="lines",
            line={"color": theme.GHOST, "width": 3},
            showlegend=False,
            hoverinfo="skip",
        )
    for number, (n_kv_heads, way) in enumerate(shared):
        own = [bar for bar in bars if bar.n_kv_heads == n_kv_heads]
        best = min(own, key=lambda bar: bar.median_s)
        fig.add_scatter(
            x=[bar.floor_s or None for bar in own],
            y=[bar.name for bar in own],
            mode="markers",
            marker={"symbol": "line-ns", "size": 16, "line": {"color": colors[way], "width": 2.5}},
            showlegend=False,
            hoverinfo="skip",
        )
        fig.add_scatter(
            name=way,
            x=[bar.median_s for bar in own],
            y=[bar.name for bar in own],
            mode="markers+text",
            marker={"color": colors[way], "size": 13},
            error_x={"array": [bar.iqr_s / 2 for bar in own], "thickness": 1.2, "width": 0, "color": colors[way]},
            text=[duration(bar.median_s) if bar is best or len(names) == 1 else "" for bar in own],
            # neighbours may be close: their labels stand above and below in turn
            textposition="bottom center" if number % 2 else "top center",
            textfont={"size": 12},
            cliponaxis=False,
            customdata=[[duration(b.median_s), duration(b.iqr_s), _floor_text(b), b.name] for b in own],
            hovertemplate=f"{rows}: %{{customdata[3]}}<br>{way}: %{{customdata[0]}}, spread %{{customdata[1]}}"
            "<br>%{customdata[2]}<extra></extra>",
        )
    # the legend's entry has a neutral colour, because each sharing has its own floor
    fig.add_scatter(
        x=[None],
        y=[names[0]],
        name="floor",
        mode="markers",
        marker={"symbol": "line-ns", "size": 13, "line": {"color": theme.NEUTRAL, "width": 2.5}},
    )
    fig.update_layout(
        height=max(240, 120 + ROW_PX * len(names)), title_text=plain(title, 160), legend={"y": 1.0, "yanchor": "bottom"}
    )
    fig.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=names)
    low = min(min(b.median_s, b.floor_s or b.median_s) for b in bars) / 1.4
    high = max(b.median_s + b.iqr_s / 2 for b in bars) * 1.4
    time_axis(fig, low, high, "x")
    return fig.update_xaxes(range=[log10(low), log10(high)])


def _floor_text(bar: Bar) -> str:
    if not bar.floor_s:
        return "no floor measured"
    return f"{ratio(bar.median_s / bar.floor_s)} the floor of {duration(bar.floor_s)}, where {plain(bar.bound)} binds"


def plot_curves(curves: Sequence[Curve], title: str = "") -> go.Figure:
    """Time over context for each sharing, of its fastest implementation; dotted lines are the floors."""
    curves = [curve for curve in curves if curve.context]
    if not curves:
        return theme.empty(plain(title, 160) or "Timings over the context", "No timing of this shape yet.")
    colors = _gqa_colors([curve.sharing for curve in curves])
    fig = go.Figure()
    for curve in curves:
        way = curve.sharing
        fig.add_scatter(
            x=curve.context,
            y=curve.median_s,
            name=way,
            mode="lines+markers",
            line={"color": colors[way], "width": 2.5},
            marker={"size": 8},
            customdata=[
                [tokens(c), duration(t), plain(name)]
                for c, t, name in zip(curve.context, curve.median_s, curve.implementation, strict=True)
            ],
            hovertemplate=f"{way} at %{{customdata[0]}}: %{{customdata[1]}}<br>%{{customdata[2]}}<extra></extra>",
        )
        fig.add_scatter(
            x=curve.context,
            y=[f or None for f in curve.floor_s],
            name=f"floor of {way}",
            mode="lines",
            line={"color": colors[way], "width": 1.5, "dash": "dot"},
            showlegend=False,
            hoverinfo="skip",
        )
    times = [t for curve in curves for t in (*curve.median_s, *curve.floor_s) if t > 0]
    contexts = [c for curve in curves for c in curve.context]
    theme.token_axis(fig, min(contexts), max(contexts))
    time_axis(fig, min(times) / 2, max(times) * 2, "y")
    named = [EndLabel(c.context[-1], c.median_s[-1], c.sharing, colors[c.sharing]) for c in curves]
    for note in end_labels(named, (min(times) / 2, max(times) * 2), 320):
        fig.add_annotation(**note)
    fig.update_layout(height=400, title_text=plain(title, 160), showlegend=False, margin={"r": 24})
    return fig
