"""One decode step by several implementations: the time of each, beside the least possible time."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attention import sharing
from attention.kernels.case import Result
from attention.timing.views import faster, faster_text
from attention.units import duration, held
from viz import theme
from viz.text import plain

LABELS = {
    "repeat_sdpa": "repeat_interleave, then SDPA",
    "enable_gqa": "SDPA, enable_gqa=True",
    "folded_sdpa": "shared reads, SDPA",
    "folded_matmul": "shared reads",
    "split_matmul": "shared reads, context split",
}


def _label(result: Result) -> str:
    n = result.case.n_kv_heads
    shared = sharing.name(result.case.n_heads, n)
    if n == result.case.n_heads:
        return shared
    return f"{shared}: {LABELS.get(result.case.implementation, result.case.implementation)}"


def plot_trap(results: Sequence[Result]) -> go.Figure:
    """Median times as bars, their interquartile range, and each case's floor as a line."""
    title = "One decode step, one layer"
    if not results:
        return theme.empty(title, "Press Time it here.", height=300)
    shown = list(reversed(results))
    labels = [plain(_label(r)) for r in shown]
    fig = go.Figure()
    fig.add_bar(
        y=labels,
        x=[1e3 * (r.median_s or 0) for r in shown],
        orientation="h",
        error_x={"type": "data", "array": [500 * (r.iqr_s or 0) for r in shown], "color": theme.NEUTRAL, "width": 3},
        marker={
            "color": [theme.SHARING_COLORS[_label(r)[:3]] for r in shown],
            "opacity": [0.4 if r.unsteady else 1 for r in shown],
        },
        customdata=[duration(r.median_s or 0) for r in shown],
        hovertemplate="%{y}<br>median %{customdata}<extra></extra>",
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
    for label, r in zip(labels, shown, strict=True):
        end_ms = 1e3 * (r.median_s or 0) + 500 * (r.iqr_s or 0)
        fig.add_annotation(x=end_ms, y=label, text=duration(r.median_s or 0), showarrow=False, xanchor="left", xshift=6)
    first = results[0]
    name = f"Milliseconds · {held(first.case.context)}, {plain(first.case.dtype)}, {plain(first.case.device)}"
    # leave space for the text beside the longest bar
    most = max(1e3 * (r.median_s or 0) + 500 * (r.iqr_s or 0) for r in shown)
    fig.update_xaxes(title_text=name, range=[0, 1.35 * most])
    fig.update_layout(showlegend=False)
    return theme.apply(fig, height=300, title=title)


def describe_trap(results: Sequence[Result]) -> str:
    """The figure in words."""
    if not results:
        return "No timing yet."
    return "Measured: " + "; ".join(f"{_label(r)} {duration(r.median_s or 0)}" for r in results) + "."


def compare_trap(results: Sequence[Result]) -> str:
    """Each result against multi-head attention, which is the first row, in words; empty if they may not be compared."""
    if len(results) < 2:
        return ""
    base, *others = results
    said = [(other, faster_text(faster(base, other))) for other in others]
    return "; ".join(f"{_label(other)}: {text}" for other, text in said if text)
