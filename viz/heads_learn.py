"""The heads of the tiny models: role scores, likeness of heads, and the models' loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from viz import theme
from viz.text import plain


class RoleTable(NamedTuple):
    """Scores of one layer: score[role][head], and chance[role][head], the larger of two chance levels."""

    roles: Sequence[str]
    score: Sequence[Sequence[float]]
    chance: Sequence[Sequence[float]]


class Curve(NamedTuple):
    """A model's validation loss during training, in nats per byte."""

    name: str
    steps: Sequence[int]
    losses: Sequence[float]


_SCALE = [[0.0, "rgba(14, 116, 144, 0.04)"], [1.0, "rgba(14, 116, 144, 1)"]]
_SHARES = {"zmin": 0, "zmax": 1, "colorscale": _SCALE, "showscale": False, "xgap": 2, "ygap": 2}
"""Options of a heat map whose colours are shares, 0 to 1."""


def plot_roles(table: RoleTable) -> go.Figure:
    """The score of each head for each role; the text of a cell also says how many times chance it is."""
    title = "Role scores on held-out text"
    if not table.roles:
        return theme.empty(title)
    written = [
        [f"{100 * s:.0f} %<br>{s / c:.1f}×" for s, c in zip(scores, chances, strict=True)]
        for scores, chances in zip(table.score, table.chance, strict=True)
    ]
    fig = go.Figure(
        go.Heatmap(
            z=[list(row) for row in table.score],
            x=[str(i) for i in range(len(table.score[0]))],
            y=[plain(role) for role in table.roles],
            **_SHARES,
            text=written,
            texttemplate="%{text}",
            textfont={"size": 11},
            customdata=[list(row) for row in table.chance],
            hovertemplate="head %{x}, %{y}<br>score %{z:.1%}, chance %{customdata:.1%}<extra></extra>",
        )
    )
    fig.update_yaxes(autorange="reversed", showgrid=False)
    fig.update_xaxes(side="top", showgrid=False, type="category", title_text="Head")
    return theme.apply(fig, height=64 + 44 * len(table.roles))


def plot_similarity(matrix: Sequence[Sequence[float]], n_kv_heads: int) -> go.Figure:
    """Likeness of a layer's heads; heads that read one K/V head are framed in its colour."""
    title = "Likeness of heads"
    if not matrix:
        return theme.empty(title)
    n = len(matrix)
    group = n // n_kv_heads
    names = [str(i) for i in range(n)]
    fig = go.Figure(
        go.Heatmap(
            z=[[value if i != j else None for j, value in enumerate(row)] for i, row in enumerate(matrix)],
            x=names,
            y=names,
            **_SHARES,
            texttemplate="%{z:.2f}",
            hovertemplate="heads %{x} and %{y}: %{z:.3f}<extra></extra>",
            hoverongaps=False,
        )
    )
    for kv in range(n_kv_heads):
        low, high = kv * group - 0.5, (kv + 1) * group - 0.5
        fig.add_shape(
            type="rect", x0=low, x1=high, y0=low, y1=high, line={"color": theme.kv_color(kv, n_kv_heads), "width": 3}
        )
    fig.update_xaxes(title_text="Head", type="category", showgrid=False, constrain="domain")
    fig.update_yaxes(
        title_text="Head", type="category", autorange="reversed", showgrid=False, scaleanchor="x", constrain="domain"
    )
    return theme.apply(fig, height=380)


def plot_training(curves: Sequence[Curve]) -> go.Figure:
    """Validation loss over training steps."""
    title = "Validation loss while training"
    if not curves:
        return theme.empty(title)
    fig = go.Figure()
    drawn: Counter[str] = Counter()
    for curve in curves:
        sharing = curve.name.split("-")[0]
        # all GQA models have one colour; different numbers of K/V heads have different dashes
        dash = theme.DASHES[drawn[sharing] % len(theme.DASHES)]
        drawn[sharing] += 1
        fig.add_scatter(
            x=list(curve.steps),
            y=list(curve.losses),
            name=plain(curve.name),
            mode="lines",
            line={"color": theme.SHARING_COLORS[sharing], "width": 2, "dash": dash},
            hovertemplate="step %{x}: %{y:.3f} nats/byte<extra>" + plain(curve.name) + "</extra>",
        )
    fig.update_xaxes(title_text="Training step")
    fig.update_yaxes(title_text="Nats per byte")
    return theme.apply(fig, height=300)
