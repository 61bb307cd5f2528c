"""Several models' caches over the context."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import isclose
from typing import Any, NamedTuple

import plotly.graph_objects as go

from attention.memory.comparison import Comparison, Curve, Ranked
from attention.memory.differences import Difference
from attention.units import binary_bytes, held, ratio, significant
from viz import figure, theme
from viz.labels import EndLabel, end_labels, margin_for
from viz.text import plain

_TOP, _BOTTOM = 16, 52
_NAMES = {
    "total": "Cache",
    "token": "Cache per token held",
    "billion": "Cache per token and 10⁹ parameters",
    "mha": "Share of its own MHA",
}


def plot_over_context(numbers: Comparison, *, height: int = 348) -> go.Figure:
    """One line per model on logarithmic axes, named at its end; a diamond where it equals the weights."""
    if not numbers.curves:
        return theme.empty("Cache over context", "Choose at least one model with published sizes.", height)
    as_share = numbers.view == "mha"
    values = [v for curve in numbers.curves for v in curve.y if v] or [1.0]
    low, high = min(values) / 1.4, 1.6 if as_share else max(values) * 1.4
    labels = [
        EndLabel(numbers.x[-1], curve.y[-1], curve.label, theme.series_color(i), theme.series_dash(i))
        for i, curve in enumerate(numbers.curves)
        if curve.y[-1]
    ]
    widths = _widths(numbers.curves)
    traces: list[dict[str, Any]] = []
    for i, curve in enumerate(numbers.curves):
        traces.append(
            {
                "type": "scatter", "mode": "lines", "x": numbers.x, "y": [v or None for v in curve.y],
                "name": plain(curve.label),
                "line": {"color": theme.series_color(i), "width": widths[i], "dash": theme.series_dash(i)},
                "customdata": [percent(v) if as_share else binary_bytes(v) for v in curve.y],
                "hovertemplate": "%{customdata}",
            }
        )  # fmt: skip
    traces += _diamonds(numbers)
    return figure.figure(
        traces,
        height=height,
        x=figure.token_axis(numbers.x[0], numbers.x[-1]),
        y=figure.share_axis(low, _NAMES["mha"])
        if as_share
        else figure.bytes_axis(low, high, _NAMES[numbers.view], log=True),
        annotations=end_labels(labels, (low, high), height - _TOP - _BOTTOM),
        shapes=[figure.line_down(numbers.context)],
        margin={"l": 8, "t": _TOP, "b": _BOTTOM, "r": margin_for(labels)},
        hovermode="x unified",
    )


def _widths(curves: Sequence[Curve]) -> list[float]:
    """Width of each line in pixels. A line that later lines cover is wider, by a rim on both sides for each of them."""
    covered = [sum(_equal(curve, later) for later in curves[i + 1 :]) for i, curve in enumerate(curves)]
    return [2.5 + 5 * n for n in covered]


def _equal(one: Curve, other: Curve) -> bool:
    """Whether the lines cover each other over more than half of the figure."""
    same = [isclose(a, b, rel_tol=0.02) for a, b in zip(one.y, other.y, strict=True)]
    return sum(same) > len(same) / 2


def percent(share: float) -> str:
    return f"{significant(100 * share)} %"


def differences_table(rows: Sequence[Difference], left: str, right: str) -> str:
    """Two models number by number, as HTML: both values, and below them the rule and the configuration's field."""
    items = [f"<div><dt></dt><dd>{escape(left)}</dd><dd>{escape(right)}</dd></div>"]
    for row in rows:
        fields = dict.fromkeys(text for text in (row.left_field, row.right_field) if text)
        # a text with blanks is a sentence, not the name of a field
        named = " · ".join(escape(text) if " " in text else f"<code>{escape(text)}</code>" for text in fields)
        values = "".join(f"<dd>{escape(value) or '–'}</dd>" for value in (row.left, row.right))
        items.append(f'<div><dt>{escape(row.what)}</dt>{values}<dd class="rule">{escape(row.rule)} {named}</dd></div>')
    return f'<dl class="hs-differences">{"".join(items)}</dl>'


class RankedBar(NamedTuple):
    """One bar of the ranking. `names`: (label, colour of its line). `part`: the bar's length over the longest."""

    names: tuple[tuple[str, str], ...]
    text: str
    part: float


def ranking(rows: Sequence[Ranked], view: str) -> tuple[RankedBar, ...]:
    """The bars; the text of each gives its value and how many times the smallest value it is."""
    if not rows:
        return ()
    most, least = rows[0].value or 1.0, rows[-1].value
    bars = []
    for row in rows:
        text = percent(row.value) if view == "mha" else binary_bytes(row.value)
        if view != "mha" and least and row.value > least:
            text += f" · {ratio(row.value / least)} the smallest"
        names = tuple((label, theme.series_color(place)) for place, label in row.members)
        bars.append(RankedBar(names, text, row.value / most))
    return tuple(bars)


def _diamonds(numbers: Comparison) -> list[dict[str, Any]]:
    # one trace for all diamonds, because every trace takes time to draw
    points = [
        (*curve.crossover, theme.series_color(i))
        for i, curve in enumerate(numbers.curves)
        if curve.crossover is not None
    ]
    if not points:
        return []
    x, y, colors = zip(*points, strict=True)
    return [
        {
            "type": "scatter", "mode": "markers", "x": x, "y": y,
            "marker": {"symbol": "diamond", "size": 11, "color": colors, "line": {"width": 1.5, "color": "#fff"}},
            "customdata": [f"equals the weights ({binary_bytes(b)}) at {held(a)}" for a, b, _ in points],
            "hovertemplate": "%{customdata}<extra></extra>",
        }
    ]  # fmt: skip
