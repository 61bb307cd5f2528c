"""All models of the catalogue: size against cache, coloured by how they share."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10

import plotly.graph_objects as go

from attention.model_points import ModelPoint
from attention.spec import Kind
from attention.units import binary_bytes, parameters
from viz import theme


def plot_models(points: Sequence[ModelPoint], context: int, chosen: str | None = None) -> go.Figure:
    """Parameters against cache bytes, both logarithmic; the chosen model is named."""
    title = f"One sequence's cache at {context:,} tokens, 16 bit"
    shown = [p for p in points if p.cache_bytes]
    if not shown:
        return theme.empty(title)
    fig = go.Figure()
    for sharing in ("MHA", "GQA", "MQA", "MLA", "none"):
        mine = [p for p in shown if p.sharing == sharing]
        if not mine:
            continue
        fig.add_scatter(
            x=[p.n_parameters for p in mine],
            y=[p.cache_bytes for p in mine],
            mode="markers",
            name=sharing if sharing != "none" else "no attention",
            marker={
                "size": 9,
                "color": {**theme.SHARING_COLORS, "none": theme.KIND_COLORS[Kind.RECURRENT]}[sharing],
                "opacity": 0.8,
            },
            customdata=[[p.label, parameters(p.n_parameters), binary_bytes(p.cache_bytes), p.released] for p in mine],
            hovertemplate="%{customdata[0]} (%{customdata[3]})<br>%{customdata[1]} parameters, %{customdata[2]}"
            "<extra>" + sharing + "</extra>",
        )
    found = next((p for p in shown if p.id == chosen), None)
    if found is not None:
        fig.add_annotation(
            x=log10(found.n_parameters),
            y=log10(found.cache_bytes),
            text=found.label,
            showarrow=True,
            arrowhead=0,
            arrowcolor=theme.NEUTRAL,
            ax=-30,
            ay=-34,
        )
    low, high = min(p.cache_bytes for p in shown), max(p.cache_bytes for p in shown)
    theme.bytes_axis(fig, high, low, log=True, title="KV cache")
    few, many = min(p.n_parameters for p in shown), max(p.n_parameters for p in shown)
    ticks = [10.0**e for e in range(6, 15) if few / 3 <= 10**e <= many * 3]
    fig.update_xaxes(type="log", title_text="Parameters", tickvals=ticks, ticktext=[parameters(int(t)) for t in ticks])
    fig.update_layout(margin_t=64)
    return theme.apply(fig, height=420, title=title)
