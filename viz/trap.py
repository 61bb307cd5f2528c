"""One decode step, computed in several ways: the time each takes, beside the least it could take."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attention.cases import Result
from attention.units import duration, tokens
from viz import theme

WAYS = {
    "repeat_sdpa": "repeat_interleave, then SDPA",
    "enable_gqa": "SDPA, enable_gqa=True",
    "folded_sdpa": "shared reads, SDPA",
    "folded_matmul": "shared reads",
    "split_matmul": "shared reads, context split",
}


def _label(result: Result) -> str:
    n = result.n_kv_heads
    sharing = "MHA" if n == result.n_heads else "MQA" if n == 1 else f"GQA-{n}"
    if n == result.n_heads:
        return sharing
    return f"{sharing}: {WAYS.get(result.implementation, result.implementation)}"


def plot_trap(results: Sequence[Result]) -> go.Figure:
    """Median times as bars, their interquartile range, and each case's floor as a line."""
    title = "One decode step, one layer"
    if not results:
        return theme.empty(title, "Press Time it here.", height=300)
    shown = list(reversed(results))
    labels = [_label(r) for r in shown]
    fig = go.Figure()
    fig.add_bar(
        y=labels,
        x=[1e3 * (r.median_s or 0) for r in shown],
        orientation="h",
        error_x={"type": "data", "array": [500 * (r.iqr_s or 0) for r in shown], "color": theme.NEUTRAL, "width": 3},
        marker_color=["#D55E00" if r.implementation == "repeat_sdpa" else theme.ACCENT for r in shown],
        text=[duration(r.median_s or 0) for r in shown],
        textposition="auto",
        hovertemplate="%{y}<br>median %{text}<extra></extra>",
        name="measured",
    )
    fig.add_scatter(
        y=labels,
        x=[1e3 * (r.floor_s or 0) for r in shown],
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 22, "line": {"width": 3}, "color": theme.NEUTRAL},
        name="least possible on this host",
        hovertemplate="%{y}<br>floor %{x:.3g} ms<extra></extra>",
    )
    first = results[0]
    fig.update_xaxes(
        title_text=f"ms, {tokens(first.context)} tokens, {first.dtype}, {first.device}", rangemode="tozero"
    )
    fig.update_layout(showlegend=False)
    return theme.apply(fig, height=300, title=title)


def describe_trap(results: Sequence[Result]) -> str:
    """The figure in words."""
    if not results:
        return "No timing yet."
    return "Measured: " + "; ".join(f"{_label(r)} {duration(r.median_s or 0)}" for r in results) + "."
