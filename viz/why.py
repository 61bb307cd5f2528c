"""Traffic of a decode step over the context: that of the weights stays, that of the cache grows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from attention.units import binary_bytes, counted, held
from viz import figure, theme


class Traffic(NamedTuple):
    """Bytes that one step reads at each context."""

    contexts: Sequence[int]
    weight_bytes: Sequence[int]
    cache_bytes: Sequence[int]
    crossover: int | None
    """Context from which a step reads more cache than weights; None: never."""


def plot_traffic(traffic: Traffic) -> go.Figure:
    """Weights and cache read per step, stacked, with the crossing marked."""
    title = "Read per decode step"
    if not traffic.contexts:
        return theme.empty(title)
    longest = traffic.contexts[-1]
    most = max(w + c for w, c in zip(traffic.weight_bytes, traffic.cache_bytes, strict=True))
    series = (
        ("Weights", traffic.weight_bytes, theme.NEUTRAL, "rgba(118, 131, 144, 0.35)"),
        ("KV cache", traffic.cache_bytes, theme.ACCENT, "rgba(14, 116, 144, 0.35)"),
    )
    traces = [
        {
            "type": "scatter", "mode": "lines", "name": name, "x": list(traffic.contexts), "y": list(values),
            "stackgroup": "bytes", "line": {"color": color, "width": 1.5}, "fillcolor": fill,
            "customdata": [
                f"{counted(n, 'token')}: {binary_bytes(v)}" for n, v in zip(traffic.contexts, values, strict=True)
            ],
            "hovertemplate": f"%{{customdata}}<extra>{name}</extra>",
        }
        for name, values, color, fill in series
    ]  # fmt: skip
    crossing = traffic.crossover if traffic.crossover is not None and traffic.crossover <= longest else None
    return figure.figure(
        traces,
        height=280,
        x=figure.linear_token_axis(longest, "Tokens in the cache"),
        y=figure.bytes_axis(0, most, "Read per step"),
        shapes=[] if crossing is None else [{**figure.line_down(crossing), "line": {"color": "#d55e00", "width": 2}}],
        annotations=[] if crossing is None else [_crossing(crossing, longest)],
        margin={"t": 40, "r": 16},
        showlegend=True,
    )


def _crossing(at: int, longest: int) -> figure.Part:
    side: figure.Part = {"xanchor": "left", "xshift": 6} if at < 0.6 * longest else {"xanchor": "right", "xshift": -6}
    text = f"cache = weights at {held(at)}"
    return figure.note(at, 0.98, text, yref="paper", yanchor="top", **side)
