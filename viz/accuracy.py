"""How wrong well-known mistakes are: a row for each wrong rule, a dot for each model that it gets wrong."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go

from attention.oracle.accuracy_view import Mistake
from attention.units import ratio
from viz import figure, theme
from viz.text import plain

_LEAST, _MOST = 1 / 64, 64.0
_TICKS = (1 / 64, 1 / 16, 1 / 4, 1, 4, 16, 64)
_TOO_MUCH, _TOO_LITTLE = "#D55E00", "#0072B2"


def plot_mistakes(mistakes: Sequence[Mistake], names: dict[str, str]) -> go.Figure:
    """The rule's bytes over the exact bytes on a logarithmic axis; the line at 1 is the exact result.

    Args:
        mistakes: factors below 1/64 or above 64 are drawn at the edge; their hover text gives the factor.
        names: rule -> its short name.
    """
    height = 100 + 34 * len(mistakes)
    if not mistakes:
        return theme.empty("What each mistake costs", "None of the known mistakes touches these models.")
    traces = [_dots(row, mistake) for row, mistake in enumerate(mistakes)]
    worst = [note for row, mistake in enumerate(mistakes) for note in _worst(row, mistake)]
    return figure.figure(
        traces,
        height=height,
        x={
            "type": "log",
            "range": [log10(_LEAST / 1.5), log10(_MOST * 2.2)],
            "tickvals": list(_TICKS),
            "ticktext": ["1/64", "1/16", "1/4", "exact", "4×", "16×", "64×"],
            "title": figure.title("← too little   too much →<br>bytes by the rule ÷ exact bytes"),
        },
        y={
            "range": [len(mistakes) - 0.4, -0.6],
            "tickvals": list(range(len(mistakes))),
            "ticktext": [f"{plain(names.get(m.rule, m.rule))}  " for m in mistakes],
            "showgrid": False,
            "automargin": True,
        },
        annotations=worst,
        shapes=[{**figure.line_down(1), "line": {"color": "#009E73", "width": 3}}],
        margin={"l": 8, "r": 8, "t": 8, "b": 66},
    )


def _clamped(factor: float) -> float:
    return min(max(factor, _LEAST), _MOST)


def _dots(row: int, mistake: Mistake) -> dict[str, Any]:
    # equal factors would hide each other: dots are moved up or down a little in turn
    offsets = [0.16 * ((i % 5) - 2) / 2 for i in range(len(mistake.factors))]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(mistake.rule),
        "x": [_clamped(f) for f in mistake.factors],
        "y": [row + offset for offset in offsets],
        "marker": {
            "size": 9,
            "opacity": 0.6,
            "color": [_TOO_MUCH if f > 1 else _TOO_LITTLE for f in mistake.factors],
        },
        "customdata": [f"{plain(name)}: {ratio(f)}" for name, f in zip(mistake.models, mistake.factors, strict=True)],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _worst(row: int, mistake: Mistake) -> list[dict[str, Any]]:
    """The name of the model that a rule gets most wrong, beside its dot."""
    far = max(mistake.factors, key=lambda f: abs(log10(f)) if f else 99.0)
    if 0.8 < far < 1.25:
        return []
    text = f"{plain(mistake.models[mistake.factors.index(far)])} {ratio(far)}"
    side: dict[str, Any] = {"xanchor": "left", "xshift": 9} if far > 1 else {"xanchor": "right", "xshift": -9}
    if far > 16 or 0 < far < 1 / 16 or far == 0:
        # there is no space beside the dot: put the name above it
        side = {"xanchor": "right" if far > 1 else "left", "yshift": 15}
    return [figure.note(log10(_clamped(far)), row, text, **side)]
