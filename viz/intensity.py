"""Kinds of cache under rooflines, and their operations per byte beside the ridges of accelerators."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

import plotly.graph_objects as go

from attention.serving.kind_points import FAMILIES, Intensities, KindPoint, Ridge
from attention.units import decimal, significant
from viz import theme
from viz.roofline import draw_roof, rate_axes
from viz.text import plain

COLORS = dict(
    zip(
        FAMILIES,
        (*(theme.SHARING_COLORS[name] for name in ("MHA", "GQA", "MQA", "MLA")), "#56B4E9", "#009E73", "#7B6BB5"),
        strict=True,
    )
)
_SYMBOLS = {False: "circle-open", True: "diamond"}
_NAMED = {"MHA": "top left", "GQA-8": "top left", "MLA, absorbed": "bottom center"}
"""Measured points with a name beside them -> the position of the name."""


def plot_kinds_roofline(numbers: Intensities, *, height: int = 540) -> go.Figure:
    """Operations per second over operations per byte, on logarithmic axes.

    Open circles are computed, diamonds are measured; the colour is the kind of cache. Grey triangles are the ridges of
    all accelerators.
    """
    points = (*numbers.computed, *numbers.measured)
    if not numbers.roofs or not points:
        return theme.empty("Kinds of cache", "This model has no attention heads.")
    low = min(point.intensity for point in points) / 4
    high = max(4000.0, *(point.intensity * 2 for point in points))
    bottom = min(point.flops_per_s for point in points) / 3
    top = max([*(roof.flops_per_s for roof in numbers.roofs), *(one.flops_per_s for one in numbers.ridges)]) * 6
    fig = go.Figure()
    for number, roof in enumerate(sorted(numbers.roofs, key=lambda roof: -roof.flops_per_s)):
        draw_roof(fig, roof, low, high, under=bool(number))
    seen = [one for one in numbers.ridges if one.flops_per_s > bottom]
    fig.add_scatter(
        name="ridge of an accelerator",
        x=[one.intensity for one in seen],
        y=[one.flops_per_s for one in seen],
        mode="markers",
        marker={"symbol": "triangle-down-open", "size": 9, "color": theme.NEUTRAL},
        customdata=[[plain(one.label), significant(one.intensity)] for one in seen],
        hovertemplate="%{customdata[0]}: ridge at %{customdata[1]} operations per byte<extra></extra>",
    )
    for is_measured, word in ((False, "computed"), (True, "measured")):
        if any(point.measured == is_measured for point in points):
            symbol = {"symbol": _SYMBOLS[is_measured], "size": 11, "color": theme.NEUTRAL}
            symbol["line"] = {"width": 0 if is_measured else 2, "color": theme.NEUTRAL}
            fig.add_scatter(x=[None], y=[None], name=word, mode="markers", marker=symbol)
    for family in FAMILIES:
        own = [point for point in points if point.family == family]
        if own:
            square = {"symbol": "square", "size": 11, "color": COLORS[family]}
            fig.add_scatter(x=[None], y=[None], name=family, mode="markers", marker=square)
        for is_measured in (False, True):
            _points(fig, [point for point in own if point.measured == is_measured])
    fig.update_layout(height=height, legend={"y": 1.0, "yanchor": "bottom"}, margin={"r": 24})
    rate_axes(fig, (low, high), (bottom, top))
    return fig


def _points(fig: go.Figure, own: Sequence[KindPoint]) -> None:
    if not own:
        return
    first = own[0]
    word = "measured" if first.measured else "computed"
    fig.add_scatter(
        x=[point.intensity for point in own],
        y=[point.flops_per_s for point in own],
        mode="markers+text",
        text=[plain(point.label) if first.measured and point.label in _NAMED else "" for point in own],
        textposition=[_NAMED.get(point.label, "bottom center") for point in own],
        textfont={"size": 12},
        marker={
            "symbol": _SYMBOLS[first.measured],
            "size": 11,
            "color": COLORS[first.family],
            "line": {"width": 2.2 if not first.measured else 0, "color": COLORS[first.family]},
        },
        showlegend=False,
        customdata=[
            [plain(p.label), significant(p.intensity), decimal(p.flops_per_s, "FLOP/s"), plain(p.note)] for p in own
        ],
        hovertemplate=f"%{{customdata[0]}}, {word}: %{{customdata[1]}} operations per byte"
        "<br>%{customdata[2]}<br>%{customdata[3]}<extra></extra>",
    )


def plot_intensities(points: Sequence[KindPoint], ridges: Sequence[Ridge], chosen: str) -> go.Figure:
    """A row for each kind, with a dot at its operations per byte, and vertical lines at the ridges of accelerators.

    Args:
        chosen: label of the accelerator whose line has its name.
    """
    if not points:
        return theme.empty("Operations per byte", "This model has no attention heads.")
    fig = go.Figure()
    low = min(point.intensity for point in points) / 1.6
    high = max([*(point.intensity for point in points), *(one.intensity for one in ridges)]) * 1.8
    at = next((one.intensity for one in ridges if one.label == chosen), 0.0)
    for one in ridges:
        own = one.label == chosen
        fig.add_vline(
            x=one.intensity,
            line={"color": theme.ACCENT_MID if own else theme.GRID, "width": 2.5 if own else 1},
            layer="below",
        )
        if own:
            fig.add_annotation(
                x=log10(one.intensity),
                y=1,
                yref="paper",
                yanchor="bottom",
                # the name stands on the side with more space
                xanchor="right" if one.intensity**2 > low * high else "left",
                text=f"{plain(one.label)}: {significant(one.intensity)}",
                showarrow=False,
            )
    labels = [plain(point.label) for point in points]
    for point in points:
        theme.ghost_line(fig, [low, point.intensity], plain(point.label), 2)
    fig.add_scatter(
        x=[point.intensity for point in points],
        y=labels,
        mode="markers+text",
        marker={"size": 12, "color": [COLORS[point.family] for point in points]},
        text=[significant(point.intensity) for point in points],
        # the text must not cross the line of the chosen accelerator
        textposition=["top center" if p.intensity < at < 1.7 * p.intensity else "middle right" for p in points],
        textfont={"size": 12},
        cliponaxis=False,
        showlegend=False,
        customdata=[plain(point.note) for point in points],
        hovertemplate="%{y}: %{text} operations per byte<br>%{customdata}<extra></extra>",
    )
    fig.update_layout(height=90 + 24 * len(points), margin={"r": 40, "t": 30})
    fig.update_yaxes(autorange="reversed", categoryorder="array", categoryarray=labels, showgrid=False)
    return fig.update_xaxes(
        type="log", range=[log10(low), log10(high)], title_text="Operations per byte moved", dtick=1, minor_ticks=""
    )
