"""The real model's heads: their likeness layer by layer, and their roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from viz import theme

_SCALE = [[0.0, "rgba(14, 116, 144, 0.04)"], [1.0, "rgba(14, 116, 144, 1)"]]


class RoleMap(NamedTuple):
    """One role: score[layer][head], and chance[layer][head], the larger of two chance levels."""

    label: str
    score: Sequence[Sequence[float]]
    chance: Sequence[Sequence[float]]


def role_map(role: Mapping[str, Any]) -> RoleMap:
    """The scores and chance levels of a role from the record."""
    chance = [[max(value, role["uniform"]) for value in row] for row in role["by_distance"]]
    return RoleMap(role["label"], role["score"], chance)


class Best(NamedTuple):
    """The head with the highest score in a role. Layers count from 1, heads from 0."""

    label: str
    layer: int
    head: int
    score: float
    chance: float


def best_of(role: RoleMap) -> Best:
    """The head with the highest score."""
    value, layer, head = max(
        (value, -layer, -head) for layer, row in enumerate(role.score) for head, value in enumerate(row)
    )
    return Best(role.label, 1 - layer, -head, value, role.chance[-layer][-head])


def plot_likeness(within: Sequence[float], between: Sequence[float]) -> go.Figure:
    """Likeness of heads by layer: those that share a K/V head, and those that do not."""
    if not within:
        return theme.empty("Likeness of heads by layer")
    layers = list(range(1, len(within) + 1))
    fig = go.Figure()
    for name, values, color, dash in (
        ("share a K/V head", within, theme.SERIES[0], "solid"),
        ("do not", between, theme.SERIES[1], "dash"),
    ):
        fig.add_scatter(
            x=layers,
            y=list(values),
            name=name,
            mode="lines+markers",
            marker={"size": 5},
            line={"color": color, "dash": dash, "width": 2},
            hovertemplate="layer %{x}: %{y:.2f}<extra>" + name + "</extra>",
        )
    fig.update_xaxes(title_text="Layer", range=[0.3, len(within) + 0.7])
    fig.update_yaxes(title_text="Likeness", range=[0, 1])
    fig.update_layout(legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return theme.apply(fig, height=340)


def plot_roles(role: RoleMap, n_kv_heads: int) -> go.Figure:
    """A role's score for every head, with a row for each layer; a line above marks the heads that read one K/V head."""
    if not role.score:
        return theme.empty("Scores by layer and head")
    n_layers, n_heads = len(role.score), len(role.score[0])
    fig = go.Figure(
        go.Heatmap(
            z=[list(row) for row in role.score],
            x=list(range(n_heads)),
            y=list(range(1, n_layers + 1)),
            zmin=0,
            zmax=max(value for row in role.score for value in row) or 1,
            colorscale=_SCALE,
            showscale=False,
            xgap=1,
            ygap=1,
            customdata=[list(row) for row in role.chance],
            hovertemplate="layer %{y}, head %{x}<br>score %{z:.1%}, chance %{customdata:.1%}<extra></extra>",
        )
    )
    group = n_heads // n_kv_heads
    for kv in range(n_kv_heads):
        fig.add_shape(
            type="line",
            x0=kv * group - 0.42,
            x1=(kv + 1) * group - 0.58,
            y0=0.3,
            y1=0.3,
            line={"color": theme.kv_color(kv, n_kv_heads), "width": 4},
        )
    fig.update_xaxes(title_text="Query head, its K/V head's colour above", dtick=1, showgrid=False, side="top")
    fig.update_yaxes(title_text="Layer", autorange="reversed", showgrid=False, dtick=5, tick0=0)
    return theme.apply(fig, height=120 + 15 * n_layers)
