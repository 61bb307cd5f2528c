"""The roofline: operations per second over operations per byte, roofs of machines, points of decode steps."""

from __future__ import annotations

from math import log10

import plotly.graph_objects as go

from attention.serving.roofline_points import Point, Roof, Roofline
from attention.units import decimal, significant
from viz import theme
from viz.text import plain

_SYMBOLS = {"whole step": "circle", "attention alone": "circle-open", "measured": "diamond"}


def _color(sharing: str) -> str:
    return theme.SHARING_COLORS.get(sharing.partition("-")[0], theme.ACCENT)


def plot_roofline(numbers: Roofline, *, height: int = 430) -> go.Figure:
    """Roofs as lines, and points in the colours of their sharing.

    Filled circles are whole steps, open circles attention alone, diamonds are measured. Small dots follow the batch
    from 1 to 1,024.
    """
    if not numbers.roofs:
        return theme.empty("Roofline", "No machine to compare with.")
    low = min([0.25, *(p.intensity / 2 for p in numbers.points)])
    high = max([1000.0, *(r.ridge * 4 for r in numbers.roofs), *(p.intensity * 2 for p in numbers.points)])
    bottom = min(_height(low, roof) for roof in numbers.roofs)
    bottom = min([bottom, *(p.flops_per_s / 3 for p in numbers.points)])
    top = max(roof.flops_per_s for roof in numbers.roofs) * 6
    fig = go.Figure()
    for roof in numbers.roofs:
        draw_roof(fig, roof, low, high)
    for point in numbers.points:
        if point.trail:
            fig.add_scatter(
                x=[x for x, _ in point.trail],
                y=[y for _, y in point.trail],
                mode="markers",
                marker={"size": 5, "color": _color(point.sharing), "opacity": 0.45},
                hoverinfo="skip",
                showlegend=False,
            )
    for part, symbol in _SYMBOLS.items():
        own = [point for point in numbers.points if point.part == part]
        if own:
            _points(fig, part, symbol, own)
    fig.update_layout(height=height, legend={"y": 1.0, "yanchor": "bottom"}, margin={"r": 24})
    rate_axes(fig, (low, high), (bottom, top))
    return fig


def rate_axes(fig: go.Figure, intensities: tuple[float, float], rates: tuple[float, float]) -> None:
    """Give the figure logarithmic axes of operations per byte and operations per second."""
    fig.update_xaxes(
        type="log",
        range=[log10(x) for x in intensities],
        title_text="Operations per byte moved",
        dtick=1,
        minor_ticks="",
    )
    decades = range(int(log10(rates[0])), int(log10(rates[1])) + 1)
    fig.update_yaxes(
        type="log",
        range=[log10(y) for y in rates],
        title_text="Operations per second",
        tickvals=[10.0**d for d in decades],
        ticktext=[decimal(10.0**d, "FLOP/s") for d in decades],
    )


def _height(intensity: float, roof: Roof) -> float:
    return min(intensity * roof.bytes_per_s, roof.flops_per_s)


def draw_roof(fig: go.Figure, roof: Roof, low: float, high: float, *, under: bool = False) -> None:
    """Draw a machine's limits between two intensities, dashed if they were measured, with its name and its rates.

    Args:
        under: write only the name, below the line, because the name of another roof is above it.
    """
    fig.add_scatter(
        x=[low, roof.ridge, high],
        y=[low * roof.bytes_per_s, roof.flops_per_s, roof.flops_per_s],
        mode="lines",
        line={"color": theme.NEUTRAL, "width": 2.5, "dash": "dash" if roof.measured else "solid"},
        showlegend=False,
        hovertemplate=f"{plain(roof.label)}: {decimal(roof.bytes_per_s, 'B/s')}, {decimal(roof.flops_per_s, 'FLOP/s')}"
        f"<br>ridge at {significant(roof.ridge)} operations per byte<extra></extra>",
    )
    name = f"{plain(roof.label)}{' (measured)' if roof.measured else ''}"
    rates = f"<br>{decimal(roof.flops_per_s, 'FLOP/s')}, {decimal(roof.bytes_per_s, 'B/s')}"
    fig.add_annotation(
        x=log10(high),
        y=log10(roof.flops_per_s),
        text=name if under else name + rates,
        showarrow=False,
        xanchor="right",
        align="right",
        yanchor="top" if under else "bottom",
        yshift=-3 if under else 3,
    )


def _note(point: Point) -> str:
    return plain(point.note or f"{point.binds} binds")


def _points(fig: go.Figure, part: str, symbol: str, own: list[Point]) -> None:
    whole = part == "whole step"
    for rank, point in enumerate(sorted(own, key=lambda p: p.intensity) if whole else ()):
        # whole steps are close together on the slope: their names are spread out above it
        fig.add_annotation(
            x=log10(point.intensity),
            y=log10(point.flops_per_s),
            text=plain(point.sharing),
            ax=-34 + 18 * rank,
            ay=-14 - 18 * rank,
            arrowhead=0,
            arrowwidth=1,
            arrowcolor=_color(point.sharing),
            font={"size": 12},
        )
    fig.add_scatter(
        x=[point.intensity for point in own],
        y=[point.flops_per_s for point in own],
        name=part,
        mode="markers" if whole else "markers+text",
        text=[plain(point.sharing) for point in own],
        # measured points may be close to each other
        textposition=["bottom left" if n % 2 and n + 1 < len(own) else "bottom right" for n in range(len(own))]
        if part == "measured"
        else "bottom right",
        textfont={"size": 12},
        marker={
            "symbol": symbol,
            "size": 15 if whole else 12,
            "color": [_color(point.sharing) for point in own],
            "line": {"width": 2.5, "color": [_color(point.sharing) for point in own]},
        },
        customdata=[
            [plain(p.sharing), significant(p.intensity), decimal(p.flops_per_s, "FLOP/s"), _note(p)] for p in own
        ],
        hovertemplate=f"%{{customdata[0]}}, {part}: %{{customdata[1]}} operations per byte"
        "<br>%{customdata[2]}<br>%{customdata[3]}<extra></extra>",
    )
