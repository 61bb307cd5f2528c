"""Traffic of a decode step over the context: weights stay, the cache grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from attention.units import binary_bytes, tokens
from viz import theme


class Traffic(NamedTuple):
    """Bytes one step reads at each context."""

    contexts: Sequence[int]
    weight_bytes: Sequence[int]
    cache_bytes: Sequence[int]
    crossover: int | None
    """Context from which the cache is the larger part; None: never."""


def plot_traffic(traffic: Traffic) -> go.Figure:
    """Weights and cache read per step, stacked, with the crossing marked."""
    title = "Read per decode step"
    if not traffic.contexts:
        return theme.empty(title)
    fig = go.Figure()
    series = (
        ("Weights", traffic.weight_bytes, theme.NEUTRAL, "rgba(118, 131, 144, 0.35)"),
        ("KV cache", traffic.cache_bytes, theme.ACCENT, "rgba(14, 116, 144, 0.35)"),
    )
    for name, values, color, fill in series:
        fig.add_scatter(
            x=list(traffic.contexts),
            y=list(values),
            name=name,
            stackgroup="bytes",
            mode="lines",
            line={"color": color, "width": 1.5},
            fillcolor=fill,
            customdata=[binary_bytes(v) for v in values],
            hovertemplate="%{x:,} tokens: %{customdata}<extra>" + name + "</extra>",
        )
    longest = traffic.contexts[-1]
    if traffic.crossover is not None and traffic.crossover <= longest:
        fig.add_vline(x=traffic.crossover, line={"color": "#d55e00", "width": 2})
        fig.add_annotation(
            x=traffic.crossover,
            y=0.98,
            yref="paper",
            yanchor="top",
            xanchor="left" if traffic.crossover < 0.6 * longest else "right",
            xshift=6 if traffic.crossover < 0.6 * longest else -6,
            showarrow=False,
            text=f"cache = weights at {tokens(traffic.crossover)} tokens",
        )
    most = max(w + c for w, c in zip(traffic.weight_bytes, traffic.cache_bytes, strict=True))
    theme.bytes_axis(fig, most, title="Read per step")
    fig.update_xaxes(title_text="Tokens in the cache", range=[0, longest])
    fig.update_layout(margin_t=40)
    return theme.apply(fig, height=280)
