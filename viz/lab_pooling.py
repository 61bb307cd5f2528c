"""Pooling as a picture: the head slices of a projection matrix, and the fewer slices after pooling."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from attention.tiny.slices import Slices
from viz import theme

GAP = 4
"""Space between two slices, in rows of the matrix."""
SIDE = 60
"""Space between the two halves of the picture, in columns of the matrix; the lines between them stand there."""


def _scale(color: str) -> list[list[object]]:
    """The colour scale: negative weights grey, zero transparent, positive weights in the K/V head's colour."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return [
        [0.0, "rgba(118, 131, 144, 1)"],
        [0.5, "rgba(128, 140, 150, 0.04)"],
        [1.0, f"rgba({red}, {green}, {blue}, 1)"],
    ]


def _slice(
    fig: go.Figure,
    values: np.ndarray,
    left: float,
    top: float,
    color: str,
    limit: float,
    name: str,
    merged: bool = False,
) -> None:
    rows, columns = values.shape
    fig.add_heatmap(
        z=np.clip(values, -limit, limit),
        customdata=values,
        x0=left,
        dx=1,
        y0=top,
        dy=1,
        zmin=-limit,
        zmax=limit,
        colorscale=_scale(color),
        showscale=False,
        name=name,
        hovertemplate=f"{name if merged else 'head ' + name}<br>weight %{{customdata:.3f}}<extra></extra>",
    )
    fig.add_shape(
        type="rect",
        x0=left - 0.5,
        x1=left + columns - 0.5,
        y0=top - 0.5,
        y1=top + rows - 0.5,
        line={"color": color, "width": 1.5},
    )
    fig.add_annotation(
        x=left - 0.5 if not merged else left + columns - 0.5,
        y=top + rows / 2,
        text=name,
        showarrow=False,
        xanchor="right" if not merged else "left",
        xshift=-4 if not merged else 4,
    )


def plot_pooling(found: Slices) -> go.Figure:
    """Left: each head's slice of the projection, as trained. Right: the slices after pooling.

    Each colour is a K/V head after conversion. Rows are the head's dimensions, columns the inputs. Heads stand group by
    group. If it is known which share of a head's energy is kept, the share stands at the head's line.
    """
    n_heads, head_dim, hidden = found.heads.shape
    n_kv_heads = len(found.merged)
    group = n_heads // n_kv_heads
    pitch = head_dim + GAP
    # both halves have one scale, so that averaged slices look paler; the few largest weights are clipped
    limit = float(np.quantile(np.abs(found.heads), 0.98)) or 1.0
    right = hidden + SIDE
    fig = go.Figure()
    order = [head for members in found.groups for head in members] or range(n_heads)
    for place, head in enumerate(order):
        kv = place // group
        color = theme.kv_color(kv, n_kv_heads)
        _slice(fig, found.heads[head], 0, place * pitch, color, limit, f"{head}")
        middle = (kv * group + (group - 1) / 2) * pitch
        fig.add_scatter(
            x=[hidden + 1, right - 2],
            y=[place * pitch + head_dim / 2, middle + head_dim / 2],
            mode="lines",
            line={"color": color, "width": 2},
            hoverinfo="skip",
        )
        if found.kept:
            # on the outer side of the line, which turns to the middle of its group
            upper = place % group < group / 2
            kept = found.kept[head]
            fig.add_annotation(
                x=hidden + 1,
                y=place * pitch if upper else place * pitch + head_dim,
                text="> 99 %" if 0.995 <= kept < 1 else f"{100 * kept:.0f} %",
                showarrow=False,
                xanchor="left",
                yanchor="top" if upper else "bottom",
                xshift=2,
            )
    for kv in range(n_kv_heads):
        top = (kv * group + (group - 1) / 2) * pitch
        color = theme.kv_color(kv, n_kv_heads)
        _slice(fig, found.merged[kv], right, top, color, limit, f"K/V {kv}", merged=True)
    fig.update_xaxes(visible=False, range=[-0.5, right + hidden - 0.5], fixedrange=True)
    fig.update_yaxes(visible=False, range=[n_heads * pitch, -GAP], fixedrange=True)
    fig.update_layout(showlegend=False, margin={"l": 22, "r": 50, "t": 8, "b": 8})
    return theme.apply(fig, height=440)
