"""Figures of one model's cache by kind of layer: over context, and over the number of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go

from attention.memory.curves import ContextPicture, KindCurves
from attention.spec import Kind
from attention.units import binary_bytes, held, tokens
from viz import figure, theme
from viz.labels import EndLabel, end_labels, margin_for

KIND_NAMES = {
    Kind.FULL: "full attention",
    Kind.SLIDING: "sliding window",
    Kind.CHUNKED: "chunked",
    Kind.LATENT: "latent (MLA)",
    Kind.COMPRESSED: "compressed",
    Kind.SHARED: "shared",
    Kind.RECURRENT: "recurrent",
    Kind.CROSS: "cross-attention",
    Kind.NONE: "no memory",
}
_TOP, _BOTTOM = 30, 52
"""Margins above and below the plotting area in pixels; the labels at the lines' ends need the area's exact height."""
SPARE = 0.99
"""Opacity of a note that a phone has no space for: the style sheet knows it by this, and hides it there, because the
numbers above the figure say the same."""
_WARN = "#D55E00"


def plot_over_context(numbers: ContextPicture, *, log: bool = True, height: int = 400) -> go.Figure:
    """Bytes over context: lines on logarithmic axes, stacked areas on linear axes.

    Areas stacked on a logarithmic axis would show wrong shares of the layers.
    """
    if not any(numbers.curves.total):
        return theme.empty("Cache over context", "This model keeps nothing per sequence.", height)
    xs, last = numbers.curves.x, numbers.curves.x[-1]
    low, high = _range(numbers, log=log)
    labels = _labels(numbers, log=log)
    name = "Cache of one sequence" if numbers.chosen.batch == 1 else f"Cache of {numbers.chosen.batch:,} sequences"
    weights_shown = numbers.weights is not None and low < numbers.weights < high
    crossing_shown = weights_shown and numbers.crossover is not None and xs[0] <= numbers.crossover <= last
    return figure.figure(
        [
            *(_lines(numbers) if log else _stack(numbers.curves)),
            *([_marker(numbers.crossover, numbers.weights, _WARN, "diamond")] if crossing_shown else []),
            _marker(numbers.chosen.context, numbers.chosen.state_bytes, theme.ACCENT, "circle"),
        ],
        height=height,
        x=figure.token_axis(xs[0], last) if log else figure.linear_token_axis(last),
        y=figure.bytes_axis(low, high, name, log=log),
        annotations=[
            *end_labels(labels, (low, high), height - _TOP - _BOTTOM, log=log),
            *_notes(numbers, weights=weights_shown, crossing=crossing_shown, log=log),
        ],
        shapes=[figure.line_across(numbers.weights)] if weights_shown and numbers.weights else [],
        margin={"l": 8, "t": _TOP, "b": _BOTTOM, "r": margin_for(labels)},
        hovermode="x unified",
    )


def _range(numbers: ContextPicture, *, log: bool) -> tuple[float, float]:
    top = max(numbers.curves.total)
    reached = numbers.crossover is not None and numbers.crossover <= numbers.curves.x[-1]
    if not log:
        return 0.0, 1.12 * max(top, numbers.weights or 0 if reached else 0)
    bottoms = [v for v in (*numbers.curves.total, *numbers.mqa[:1]) if v]
    # leave out weights far above the curves: they would press the curves into a corner
    weights = numbers.weights if numbers.weights and numbers.weights < 64 * top else 0
    return min(bottoms) / 1.5, 1.7 * max(top, *numbers.mha, weights)


def _trace(x: Sequence[int], y: Sequence[int], name: str, line: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "lines", "x": x, "y": [v or None for v in y], "name": name, "line": line,
        "customdata": [binary_bytes(v) for v in y], "hovertemplate": "%{customdata}", **options,
    }  # fmt: skip


def _lines(numbers: ContextPicture) -> list[dict[str, Any]]:
    x, by_kind = numbers.curves.x, numbers.curves.by_kind
    ghost = {"color": theme.NEUTRAL, "width": 1.5, "dash": "dot"}
    traces = [_trace(x, y, name, ghost) for name, y in (("as MHA", numbers.mha), ("as MQA", numbers.mqa)) if y]
    several = len(by_kind) > 1
    for kind, y in by_kind.items():
        traces.append(
            _trace(x, y, KIND_NAMES[kind], {"color": theme.KIND_COLORS[kind], "width": 2 if several else 3.5})
        )
    if several:
        traces.append(_trace(x, numbers.curves.total, "all layers", {"color": theme.ACCENT, "width": 3.5}))
    return traces


def _stack(curves: KindCurves) -> list[dict[str, Any]]:
    return [
        {
            **_trace(curves.x, y, KIND_NAMES[kind], {"color": theme.KIND_COLORS[kind], "width": 1}, stackgroup="kinds"),
            "y": list(y),
        }
        for kind, y in curves.by_kind.items()
    ]


def _marker(x: int | None, y: int | None, color: str, symbol: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": [x], "y": [y], "hoverinfo": "skip",
        "cliponaxis": False,
        "marker": {"symbol": symbol, "size": 12, "color": color, "line": {"width": 2, "color": "#fff"}},
    }  # fmt: skip


def _notes(numbers: ContextPicture, *, weights: bool, crossing: bool, log: bool) -> list[dict[str, Any]]:
    scale = log10 if log else float
    chosen = f"<b>{binary_bytes(numbers.chosen.state_bytes)}</b> at {held(numbers.chosen.context)}"
    at = scale(numbers.chosen.context), scale(max(numbers.chosen.state_bytes, 1))
    # not at the right edge: the names of the lines stand there, and the page's first number says the same
    edge = numbers.chosen.context >= 0.8 * numbers.curves.x[-1]
    notes = []
    if not edge:
        notes.append(figure.note(*at, chosen, xanchor="left", xshift=10, yshift=-16 if log else 18, opacity=SPARE))
    if weights and numbers.weights:
        text = f"weights {binary_bytes(numbers.weights)}"
        if crossing and numbers.crossover:
            # a short text, which does not reach the lines' names on a phone
            text += f",<br>outgrown at {tokens(numbers.crossover)}"
        notes.append(
            figure.note(
                0,
                scale(numbers.weights),
                text,
                xref="paper",
                xanchor="left",
                yanchor="bottom",
                align="left",
                opacity=SPARE,
            )
        )
    return notes


def _labels(numbers: ContextPicture, *, log: bool) -> list[EndLabel]:
    curves, last = numbers.curves, numbers.curves.x[-1]
    if not log:
        labels, base = [], 0
        for kind, values in curves.by_kind.items():
            labels.append(EndLabel(last, base + values[-1] / 2, KIND_NAMES[kind], theme.KIND_COLORS[kind]))
            base += values[-1]
        return labels
    several = len(curves.by_kind) > 1
    color = theme.ACCENT if several else theme.KIND_COLORS[next(iter(curves.by_kind))]
    labels = [EndLabel(last, curves.total[-1], ", as it is", color, strong=numbers.own)]
    labels += [EndLabel(last, y[-1], name) for name, y in (("as MHA", numbers.mha), ("as MQA", numbers.mqa)) if y]
    if several:
        kinds = curves.by_kind.items()
        labels += [EndLabel(last, y[-1], KIND_NAMES[kind], theme.KIND_COLORS[kind]) for kind, y in kinds]
    return [label for label in labels if label.y]


def plot_over_batch(curves: KindCurves, *, chosen: int, weights: int | None = None, height: int = 400) -> go.Figure:
    """Stacked bars by kind of layer, one for each number of sequences; the bar of `chosen` is opaque."""
    if not any(curves.total):
        return theme.empty("Cache over batch", "This model keeps nothing per sequence.", height)
    names = [f"{b:,}" for b in curves.x]
    traces = [
        {
            "type": "bar", "x": names, "y": values, "name": KIND_NAMES[kind],
            "marker": {"color": theme.KIND_COLORS[kind], "opacity": [1 if b == chosen else 0.5 for b in curves.x]},
            "customdata": [binary_bytes(v) for v in values], "hovertemplate": "%{customdata}",
        }
        for kind, values in curves.by_kind.items()
    ]  # fmt: skip
    high = 1.12 * max(curves.total)
    shown = weights is not None and weights < high
    notes = [
        figure.note(i, total, binary_bytes(total), yshift=11)
        for i, total in enumerate(curves.total)
        if total > high / 60 or curves.x[i] == chosen
    ]
    if shown and weights:
        # right of the plot, where the text does not cover the bars
        text = f"weights<br>{binary_bytes(weights)}"
        notes.append(figure.note(1, weights, text, xref="paper", xanchor="left", xshift=4, align="left"))
    return figure.figure(
        traces,
        height=height,
        x={"type": "category", "title": figure.title("Sequences decoded together"), "showgrid": False},
        y=figure.bytes_axis(0, high, "Cache"),
        annotations=notes,
        shapes=[figure.line_across(weights)] if shown and weights else [],
        barmode="stack",
        margin={"l": 8, "t": 28, "b": _BOTTOM, "r": 76 if shown else 16},
        showlegend=len(curves.by_kind) > 1,
        hovermode="x unified",
    )
