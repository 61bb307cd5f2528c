"""Timings of kinds of cache: a row for each shape, a dot for each implementation, a tick at the floor."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

import plotly.graph_objects as go

from attention.kernels.kinds import names
from attention.kernels.kinds.case import KindResult, kind_bytes, kind_flops
from attention.timing.kind_views import Row
from attention.units import binary_bytes, duration, ratio, significant
from viz import theme
from viz.text import plain
from viz.timings import time_axis

ROW_PX = 38
"""Height of a row in pixels, with the space for a label above its dots."""


def color(implementation: str) -> str:
    """The colour of an implementation, the same in every figure; plain PyTorch is grey, because it is the baseline."""
    if implementation == "plain":
        return theme.QUIET
    known = [name for name in names.IMPLEMENTATIONS if name != "plain"]
    return theme.series_color(known.index(implementation) if implementation in known else len(known))


def label(implementation: str) -> str:
    """The label of an implementation; its own name if this version does not know it, as in a run of another version."""
    known = names.IMPLEMENTATIONS.get(implementation)
    return known.label if known else implementation


def plot_kinds(rows: Sequence[Row], title: str = "") -> go.Figure:
    """Median times of the shapes of a topic; an empty sequence gives an empty figure."""
    if not rows:
        return theme.empty(plain(title, 160) or "Kinds of cache", "No timing of these shapes yet.")
    fig = go.Figure()
    for row in rows:
        times = [r.median_s or 0.0 for r in row.results]
        theme.ghost_line(fig, [min(times), max(times)], plain(row.label), 3)
    fig.add_scatter(
        name="floor",
        x=[row.best.floor_s or None for row in rows],
        y=[plain(row.label) for row in rows],
        mode="markers",
        marker={"symbol": "line-ns", "size": 17, "line": {"color": theme.NEUTRAL, "width": 2.5}},
        hoverinfo="skip",
    )
    order = list(dict.fromkeys(r.case.implementation for row in rows for r in row.results))
    order.sort(key=lambda name: list(names.IMPLEMENTATIONS).index(name) if name in names.IMPLEMENTATIONS else 99)
    for name in order:
        own = [(row, r) for row in rows for r in row.results if r.case.implementation == name]
        fig.add_scatter(
            name=plain(label(name)),
            x=[r.median_s for _, r in own],
            y=[plain(row.label) for row, _ in own],
            mode="markers+text",
            marker={"color": color(name), "size": 12},
            error_x={"array": [(r.iqr_s or 0.0) / 2 for _, r in own], "thickness": 1.2, "width": 0},
            text=[duration(r.median_s or 0.0) if r is row.best else "" for row, r in own],
            textposition="top center",
            textfont={"size": 12},
            cliponaxis=False,
            customdata=[[plain(row.label), duration(r.median_s or 0.0), *_hover(r)] for row, r in own],
            hovertemplate=f"%{{customdata[0]}}, {plain(label(name))}: %{{customdata[1]}}<br>%{{customdata[2]}}"
            "<br>%{customdata[3]}<br>%{customdata[4]}<extra></extra>",
        )
    every = [r for row in rows for r in row.results]
    low = min(min(r.median_s or 1.0, r.floor_s or r.median_s or 1.0) for r in every) / 1.6
    high = max((r.median_s or 0.0) + (r.iqr_s or 0.0) / 2 for r in every) * 1.6
    fig.update_layout(
        height=max(260, 130 + 10 * len(order) + ROW_PX * len(rows)),
        title_text=plain(title, 160),
        legend={"y": 1.0, "yanchor": "bottom"},
    )
    fig.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=[plain(row.label) for row in rows])
    time_axis(fig, low, high, "x")
    return fig.update_xaxes(range=[log10(low), log10(high)])


def _hover(result: KindResult) -> tuple[str, str, str]:
    """In words: the result's floor, the bytes and operations it needs, and its error."""
    assert result.median_s
    moved, done = kind_bytes(result.case), kind_flops(result.case)
    floor = "no floor measured"
    if result.floor_s:
        floor = (
            f"{ratio(result.median_s / result.floor_s)} the floor of {duration(result.floor_s)}: {result.bound} binds"
        )
    work = f"{binary_bytes(moved)} to read, {significant(done / moved)} operations per byte"
    error = "not checked" if result.error is None else f"off float64 by {result.error:.1e} of the result's size"
    return plain(floor), work, error
