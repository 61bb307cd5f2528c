"""The way from MQA to MHA in pictures: cost at every number of K/V heads, and the published trade-off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from viz import theme


class Costs(NamedTuple):
    """Each series as a share of MHA's, by number of K/V heads; a missing value is None."""

    n_kv_heads: Sequence[int]
    names: Sequence[str]
    cache: Sequence[float]
    parameters: Sequence[float | None]
    floor: Sequence[float]
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
    title = "Cost, in per cent of MHA's"
    if not costs.n_kv_heads:
        return theme.empty(title)
    fig = go.Figure()
    series = (
        ("KV cache", costs.cache, theme.SERIES[0], "solid"),
        ("attention's weights", costs.parameters, theme.SERIES[2], "solid"),
        ("time per step, at least", costs.floor, theme.NEUTRAL, "dot"),
    )
    for name, values, color, dash in series:
        if all(v is None for v in values):
            continue
        fig.add_scatter(
            x=list(costs.names),
            y=[None if v is None else 100 * v for v in values],
            name=name,
            mode="lines+markers",
            # the time covers the cache where both are equal
            line={"color": color, "width": 2 if name != "KV cache" else 5, "dash": dash},
            customdata=list(costs.texts.get(name, [""] * len(costs.names))),
            hovertemplate="%{x}: %{customdata} (%{y:.3g} %)<extra>" + name + "</extra>",
        )
    if costs.measured:
        known = [(n, name) for n, name in zip(costs.n_kv_heads, costs.names, strict=True) if n in costs.measured]
        fig.add_scatter(
            x=[name for _, name in known],
            y=[100 * costs.measured[n] for n, _ in known],
            name="time measured here",
            mode="lines+markers",
            line={"color": theme.SERIES[1], "width": 2},
            marker={"size": 9},
            customdata=[
                text for n, text in zip(costs.n_kv_heads, costs.texts["measured"], strict=True) if n in costs.measured
            ],
            hovertemplate="%{x}: %{customdata} (%{y:.3g} %)<extra>measured here</extra>",
        )
    if costs.chosen in costs.n_kv_heads:
        at = list(costs.n_kv_heads).index(costs.chosen)
        fig.add_vrect(x0=at - 0.4, x1=at + 0.4, fillcolor=theme.ACCENT, opacity=0.12, line_width=0)
    fig.update_xaxes(type="category", categoryorder="array", categoryarray=list(costs.names))
    fig.update_yaxes(rangemode="tozero", ticksuffix=" %")
    fig.update_layout(margin_t=70, legend={"y": 1.02, "font": {"size": 12}})
    return theme.apply(fig, height=330, title=title)


def plot_quality(rows: Sequence[Quality], chosen: str | None = None) -> go.Figure:
    """Average score against inference time, as printed; the chosen model is ringed."""
    title = "Published: quality against time"
    if not rows:
        return theme.empty(title)
    colors = {"MHA": "MHA", "MQA": "MQA", "GQA": "GQA"}
    fig = go.Figure()
    for row in rows:
        color = theme.SHARING_COLORS[colors[row.model[:3]]]
        fig.add_scatter(
            x=[row.seconds],
            y=[row.average],
            mode="markers+text",
            text=[f"\u00a0{row.model}"],
            textposition="middle right",
            marker={
                "size": 16,
                "color": color,
                "line": {"width": 3 if row.model == chosen else 0, "color": theme.ACCENT},
                "symbol": "diamond" if row.model == chosen else "circle",
            },
            hovertemplate="%{text}: %{x} s, average %{y}<extra></extra>",
            showlegend=False,
        )
    fig.update_xaxes(title_text="Seconds per sample (T_infer)", range=[0, 1.9])
    fig.update_yaxes(title_text="Average score", range=[45.6, 47.6])
    return theme.apply(fig, height=330, title=title)


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
    fig = go.Figure()
    shown = list(reversed(rows))
    for name, values, color in (
        ("beam-4", [r.beam for r in shown], theme.QUIET),
        ("greedy", [r.greedy for r in shown], theme.ACCENT_MID),
    ):
        fig.add_bar(
            y=[r.model for r in shown],
            x=values,
            orientation="h",
            name=name,
            marker_color=color,
            text=[f"{v:g}" for v in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}, " + name + ": %{x} µs<extra></extra>",
        )
    fig.update_xaxes(
        title_text="Microseconds per output token (TPUv2)", type="log", range=[0, 2.6], tickvals=[1, 10, 100]
    )
    fig.update_layout(legend={"traceorder": "reversed"}, margin_r=40, margin_t=64)
    return theme.apply(fig, height=330, title=title)
