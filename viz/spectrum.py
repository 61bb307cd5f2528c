"""From MQA to MHA: the cost at every number of K/V heads, and the published trade-off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from viz import figure, theme
from viz.text import plain


class Costs(NamedTuple):
    """Each series as shares of MHA's value, for each number of K/V heads; a missing value is None."""

    n_kv_heads: Sequence[int]
    names: Sequence[str]
    cache: Sequence[float]
    parameters: Sequence[float | None]
    floor: Sequence[float | None]
    measured: Mapping[int, float]
    chosen: int
    texts: Mapping[str, Sequence[str]]
    """Hover texts by series."""


class Quality(NamedTuple):
    """A row of a printed table: name, seconds per sample, average score."""

    model: str
    seconds: float
    average: float


def plot_costs(costs: Costs) -> go.Figure:
    """Lines over the divisors of the query heads, in per cent of MHA."""
    if not costs.n_kv_heads:
        return theme.empty("Cost, in per cent of MHA's")
    series = [
        # this line is wider, because the line of the time covers it where both are equal
        ("KV cache", costs.cache, {"color": theme.SERIES[0], "width": 5}),
        ("attention's parameters", costs.parameters, {"color": theme.SERIES[2], "width": 2}),
        ("time per step, at least", costs.floor, {"color": theme.NEUTRAL, "width": 2, "dash": "dot"}),
        (
            "time measured here",
            [costs.measured.get(n) for n in costs.n_kv_heads],
            {"color": theme.SERIES[1], "width": 2},
        ),
    ]
    places = range(len(costs.names))
    traces = [
        {
            "type": "scatter", "mode": "lines+markers", "name": name, "line": line, "connectgaps": True,
            "x": list(places), "y": [None if v is None else 100 * v for v in values],
            "customdata": [
                f"{way.replace('<br>', ' ')}: {plain(text)}"
                for way, text in zip(costs.names, costs.texts.get(name, [""] * len(costs.names)), strict=True)
            ],
            "hovertemplate": f"%{{customdata}} (%{{y:.3g}} %)<extra>{name}</extra>",
        }
        for name, values, line in series
        if any(v is not None for v in values)
    ]  # fmt: skip
    shapes = []
    if costs.chosen in costs.n_kv_heads:
        at = list(costs.n_kv_heads).index(costs.chosen)
        shapes.append(
            {
                "type": "rect", "x0": at - 0.4, "x1": at + 0.4, "yref": "paper", "y0": 0, "y1": 1,
                "fillcolor": theme.ACCENT, "opacity": 0.12, "line": {"width": 0},
            }
        )  # fmt: skip
    return figure.figure(
        traces,
        height=300,
        x={"tickvals": list(places), "ticktext": list(costs.names), "range": [-0.5, len(places) - 0.5]},
        y={"rangemode": "tozero", "ticksuffix": " %"},
        shapes=shapes,
        margin={"t": 40, "r": 16, "b": 44},
        showlegend=True,
        legend={"y": 1.02, "font": {"size": 12}},
    )


def plot_quality(rows: Sequence[Quality], chosen: str | None = None) -> go.Figure:
    """Average score over inference time, as printed; the chosen model has a ring."""
    title = "Published: quality against time"
    if not rows:
        return theme.empty(title)
    ringed = [row.model == chosen for row in rows]
    points = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [row.seconds for row in rows],
        "y": [row.average for row in rows],
        "text": [f"\u00a0{plain(row.model)}\u00a0" for row in rows],
        # names stand toward the middle, where a phone has space
        "textposition": [f"middle {'left' if row.seconds > 1 else 'right'}" for row in rows],
        "marker": {
            "size": 16,
            "color": [theme.SHARING_COLORS[row.model[:3]] for row in rows],
            "line": {"width": [3 if ring else 0 for ring in ringed], "color": theme.ACCENT},
            "symbol": ["diamond" if ring else "circle" for ring in ringed],
        },
        "hovertemplate": "%{text}: %{x} s, average %{y}<extra></extra>",
    }
    return figure.figure(
        [points],
        height=330,
        x={"title": figure.title("Seconds per sample (T_infer)"), "range": [0, 1.9]},
        y={"title": figure.title("Average score"), "range": [45.6, 47.6]},
        title=figure.title(title),
        margin={"t": 44, "r": 16},
    )


class TokenCost(NamedTuple):
    """A row of the MQA paper's Table 2: microseconds per output token."""

    model: str
    greedy: float
    beam: float


def plot_token_cost(rows: Sequence[TokenCost]) -> go.Figure:
    """Decoder time per output token on a logarithmic axis."""
    title = "Published: decoder time per token"
    if not rows:
        return theme.empty(title)
    shown = list(reversed(rows))
    traces = [
        {
            "type": "bar", "orientation": "h", "name": name, "marker": {"color": color},
            "y": [plain(row.model) for row in shown], "x": values, "text": [f"{v:g}" for v in values],
            "textposition": "outside", "cliponaxis": False,
            "hovertemplate": f"%{{y}}, {name}: %{{x}} µs<extra></extra>",
        }
        for name, values, color in (
            ("beam-4", [row.beam for row in shown], theme.QUIET),
            ("greedy", [row.greedy for row in shown], theme.ACCENT_MID),
        )
    ]  # fmt: skip
    return figure.figure(
        traces,
        height=330,
        x={
            "title": figure.title("Microseconds per output token (TPUv2)"), "type": "log", "range": [0, 2.6],
            "tickvals": [1, 10, 100],
        },
        y={},
        title=figure.title(title),
        legend={"traceorder": "reversed"},
        showlegend=True,
        margin={"r": 40, "t": 64},
    )  # fmt: skip
