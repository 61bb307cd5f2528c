"""The bytes that a decode step reads: weights and cache as stacked bars, with the measured time of the layers."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from attention.timing.steadiness import STILL_TIMED
from attention.timing.step_view import StepRow
from attention.units import binary_bytes, duration, ratio, significant
from viz import theme
from viz.text import plain

ROW_PX = 30


def plot_steps(rows: Sequence[StepRow], title: str = "") -> go.Figure:
    """A bar per step: grey for the weights, the sharing's colour for the cache; the text gives the measured time."""
    if not rows:
        return theme.empty(plain(title, 160) or "A decode step", "Choose a context and a batch.")
    labels = [plain(row.label) for row in rows]
    fig = go.Figure()
    fig.add_bar(
        orientation="h",
        name="weights",
        y=labels,
        x=[row.weight_bytes for row in rows],
        marker_color=theme.GHOST,
        customdata=[binary_bytes(row.weight_bytes) for row in rows],
        hovertemplate="%{y}<br>weights %{customdata}<extra></extra>",
    )
    fig.add_bar(
        orientation="h",
        name="cache",
        y=labels,
        x=[row.cache_bytes for row in rows],
        marker_color=[theme.SHARING_COLORS[row.variant.partition("-")[0]] for row in rows],
        text=[_text(row) for row in rows],
        textposition="outside",
        cliponaxis=False,
        customdata=[[binary_bytes(row.cache_bytes), f"{100 * row.cache_share:.0f} %"] for row in rows],
        hovertemplate="%{y}<br>cache %{customdata[0]}, %{customdata[1]} of what is read<extra></extra>",
    )
    high = max(row.weight_bytes + row.cache_bytes for row in rows)
    theme.bytes_axis(fig, high, axis="x", title="Read for one token of each sequence")
    fig.update_xaxes(range=[0, high * 1.45])
    fig.update_yaxes(autorange="reversed", showgrid=False)
    fig.update_layout(
        barmode="stack",
        bargap=0.3,
        height=max(260, 110 + ROW_PX * len(rows)),
        title_text=plain(title, 160),
        showlegend=False,
    )
    return fig


def _text(row: StepRow) -> str:
    if row.result is None:
        return f"cache {significant(100 * row.cache_share, 2)} %"
    r = row.result
    if r.unsteady:
        return f"layers {duration(r.token_s)} · {'so far' if r.unsteady == STILL_TIMED else 'not steady'}"
    return f"layers {duration(r.token_s)} · {ratio(r.times_floor)} floor"
