"""The uptraining lab: the loss of a run, the recorded study, and attention before and after."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from viz import theme
from viz.labels import EndLabel, end_labels, margin_for

POOL_COLORS = {"calibrated": "#009E73", "mean": "#0072B2", "first": "#E69F00", "random": "#CC79A7"}
KV_LINE = {1: "#D55E00", 2: "#0072B2", 4: "#56B4E9", 8: "#8A949E"}
"""Number of K/V heads -> colour of its line; MHA and MQA have the same colours as in other figures."""
LEVELS = {"MHA": theme.SHARING_COLORS["MHA"], "from scratch": "#7B6BB5"}


class Line(NamedTuple):
    """A series over steps or alpha. `spread`: standard deviation of each point, 0 for none; drawn as error bars."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    color: str
    spread: Sequence[float] = ()


class Level(NamedTuple):
    """A loss for comparison, drawn as a line across the figure."""

    name: str
    y: float
    color: str


def _rgba(color: str, alpha: float) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"


def loss_axis(fig: go.Figure, low: float, high: float, per: str = "byte") -> tuple[float, float]:
    """Give the figure a logarithmic axis of losses, a little wider than the data; returns its ends."""
    ends = low / 1.06, high * 1.06
    marks = [0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
    ticks = [mark for mark in marks if ends[0] <= mark <= ends[1]]
    fig.update_yaxes(
        type="log",
        range=[log10(ends[0]), log10(ends[1])],
        tickvals=ticks,
        ticktext=[f"{t:g}" for t in ticks],
        title_text=f"Held-out loss (nats per {per})",
    )
    return ends


def add_levels(fig: go.Figure, levels: Sequence[Level], end: float, per: str = "byte") -> None:
    """Draw lines across the figure, from 0 to `end`."""
    for level in levels:
        fig.add_scatter(
            x=[0, end],
            y=[level.y, level.y],
            mode="lines",
            line={"color": level.color, "width": 1.5, "dash": "dash"},
            hovertemplate=f"{level.name}: %{{y:.3f}} nats/{per}<extra></extra>",
        )


def label_ends(fig: go.Figure, named: Sequence[EndLabel], ends: tuple[float, float], height: int) -> None:
    """Write names at the ends of lines, and give the figure the margin that they need."""
    # x is linear and y logarithmic, but end_labels takes one kind of axis: give it the logarithms of y
    logged = [label._replace(y=log10(label.y)) for label in named]
    for note in end_labels(logged, (log10(ends[0]), log10(ends[1])), height - 90, log=False):
        fig.add_annotation(**note)
    fig.update_layout(margin={"r": margin_for(named)}, showlegend=False, height=height)


def plot_run(
    train: Sequence[tuple[int, float]],
    validation: Sequence[tuple[int, float]],
    recorded: Line | None,
    levels: Sequence[Level],
    n_steps: int,
    color: str,
    title: str = "",
) -> go.Figure:
    """Loss over the steps of a run, with the recorded runs of the same kind behind it.

    Args:
        train: (step, loss on that step's windows). validation: (step, loss on the held-out windows).
        recorded: mean loss of the study's runs, over steps.
        levels: losses for comparison.
        n_steps: number of steps of the whole run.
    """
    values = (
        [y for _, y in (*train, *validation)] + [level.y for level in levels] + list(recorded.y if recorded else ())
    )
    if not values:
        return theme.empty(title or "Uptraining", "No run yet.", height=380)
    fig = go.Figure()
    add_levels(fig, levels, n_steps)
    named = [EndLabel(n_steps, level.y, f"{level.name} {level.y:.2f}", level.color) for level in levels]
    if recorded:
        # behind a run the recorded losses are dots: a line through so few points would look like a measured course
        _banded(fig, recorded, "Step", *((theme.QUIET, "markers") if validation else (recorded.color,)))
        if not validation:
            named.append(
                EndLabel(recorded.x[-1], recorded.y[-1], f"{recorded.name} {recorded.y[-1]:.2f}", recorded.color)
            )
    if train:
        fig.add_scatter(
            x=[x for x, _ in train],
            y=[y for _, y in train],
            mode="lines",
            line={"color": _rgba(color, 0.35), "width": 1},
            hovertemplate="Step %{x}: training loss %{y:.3f}<extra></extra>",
        )
    if validation:
        fig.add_scatter(
            x=[x for x, _ in validation],
            y=[y for _, y in validation],
            mode="lines+markers",
            line={"color": color, "width": 2.5},
            marker={"size": 7},
            cliponaxis=False,
            hovertemplate="Step %{x}: held-out loss %{y:.3f}<extra></extra>",
        )
        last = validation[-1][1]
        named.append(EndLabel(validation[-1][0], last, "", color, strong=f"this run {last:.2f}"))
    ends = loss_axis(fig, min(values), max(values))
    fig.update_xaxes(title_text="Steps of uptraining", range=[-0.01 * n_steps, n_steps], rangemode="tozero")
    label_ends(fig, named, ends, 380)
    return theme.apply(fig, title=title)


def _banded(fig: go.Figure, line: Line, x_name: str, color: str, mode: str = "lines+markers") -> None:
    spread = list(line.spread) or [0.0] * len(line.x)
    fig.add_scatter(
        x=list(line.x),
        y=list(line.y),
        mode=mode,
        line={"color": color, "width": 2.5},
        marker={"size": 8},
        cliponaxis=False,
        error_y={"array": spread, "thickness": 1.3, "width": 4, "color": color},
        customdata=spread,
        hovertemplate=f"{line.name}<br>{x_name} %{{x:g}}: %{{y:.3f}} ± %{{customdata:.3f}}<extra></extra>",
    )


def plot_study(lines: Sequence[Line], levels: Sequence[Level], title: str = "") -> go.Figure:
    """Recorded losses over alpha in per cent: the mean over seeds, with error bars of one standard deviation."""
    lines = [line for line in lines if line.x]
    if not lines:
        return theme.empty(title or "Loss against alpha", "No study recorded yet.")
    fig = go.Figure()
    end = max(max(line.x) for line in lines)
    add_levels(fig, levels, end)
    for line in lines:
        _banded(fig, line, "alpha, % of the original steps:", line.color)
    values = [level.y for level in levels]
    for line in lines:
        spread = list(line.spread) or [0.0] * len(line.y)
        values += [y + sign * s for y, s in zip(line.y, spread, strict=True) for sign in (-1, 1)]
    ends = loss_axis(fig, min(values), max(values))
    # set the range: otherwise the names in the margin would widen it
    fig.update_xaxes(
        title_text="Alpha: per cent of the original steps",
        tickvals=sorted({x for line in lines for x in line.x}),
        range=[-0.03 * end, 1.03 * end],
    )
    named = [EndLabel(1.03 * end, line.y[-1], f"{line.name} {line.y[-1]:.2f}", line.color) for line in lines]
    named += [EndLabel(1.03 * end, level.y, f"{level.name} {level.y:.2f}", level.color) for level in levels]
    label_ends(fig, named, ends, 360)
    return theme.apply(fig, title=title)


def plot_maps(
    stages: Sequence[tuple[str, np.ndarray]],
    n_kv_heads: Sequence[int],
    text: Sequence[str],
    order: Sequence[int] | None = None,
) -> go.Figure:
    """A layer's attention maps: a row per stage, a column per query head, in the colour of the K/V head it reads.

    Args:
        stages: (name, √ of the weights[n_heads, length, length]).
        n_kv_heads: number of K/V heads of each stage.
        text: one visible character per byte.
        order: the old head at each place, if a conversion has moved heads; the maps are in this order.
    """
    if not stages:
        return theme.empty("Attention before and after", "The maps come with the run.", height=200)
    n_heads = stages[0][1].shape[0]
    names = list(order) if order else list(range(n_heads))
    fig = make_subplots(
        rows=len(stages),
        cols=n_heads,
        horizontal_spacing=0.008,
        vertical_spacing=0.04,
        column_titles=[f"head {names[0]}", *map(str, names[1:])],
    )
    for row, ((name, maps), n) in enumerate(zip(stages, n_kv_heads, strict=True), 1):
        for head in range(n_heads):
            # in MHA a head has the colour of its own K/V head
            color = theme.kv_color(names[head] if n == n_heads else head * n // n_heads, n)
            visible = np.where(np.tri(maps.shape[-1], dtype=bool), maps[head], np.nan)
            fig.add_heatmap(
                z=visible,
                customdata=100 * visible**2,
                zmin=0,
                zmax=1,
                colorscale=[[0, _rgba(color, 0.06)], [1, _rgba(color, 1)]],
                showscale=False,
                hoverongaps=False,
                hovertemplate=f"{name}, head {names[head]}: "
                "byte %{y} looks at %{x}, %{customdata:.0f} %<extra></extra>",
                row=row,
                col=head + 1,
            )
        # as titles of the axes the names are turned, and do not reach the maps on a phone
        fig.update_yaxes(title_text=name, row=row, col=1)
    fig.update_xaxes(showticklabels=False, showgrid=False, constrain="domain")
    fig.update_yaxes(showticklabels=False, showgrid=False, autorange="reversed")
    fig.update_layout(margin={"l": 4, "r": 4, "t": 26, "b": 4})
    return theme.apply(fig, height=40 + 130 * len(stages))
