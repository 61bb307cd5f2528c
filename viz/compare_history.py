"""A family of models by date of release: each model's cache as a share of multi-head attention."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go

from attention.memory.history import Ancestor
from attention.units import binary_bytes, parameters
from viz import figure, theme
from viz.compare import percent
from viz.text import plain


def plot_lineage(models: Sequence[Ancestor], *, family: str, height: int = 380) -> go.Figure:
    """A marker per model: share of full-length MHA over the date of release; more parameters give a larger marker."""
    if not models:
        name = f"{plain(family)}: cache as a share of multi-head attention"
        return theme.empty(name, "No published sizes in this family.", height)
    named = _named(models)
    traces = [_markers(name, models, named) for name in ("MHA", "GQA", "MQA", "MLA")]
    first, last = min(map(_years, models)), max(map(_years, models))
    years = [year for year in range(int(first), int(last) + 2) if first - 0.2 < year < last + 0.2]
    return figure.figure(
        [trace for trace in traces if trace["x"]],
        height=height,
        # years as plain numbers: with an axis of dates the figure takes a quarter longer to draw
        x={
            "title": figure.title("Released"), "showgrid": False, "tickvals": years,
            "ticktext": [str(y) for y in years],
            "range": [first - 0.05 * (last - first) - 0.1, last + 0.05 * (last - first) + 0.1],
        },
        y=figure.share_axis(min(m.share for m in models) / 1.5, "Share of full-length MHA"),
        showlegend=True,
        margin={"l": 8, "t": 28, "r": 48, "b": 8},
    )  # fmt: skip


def _markers(name: str, models: Sequence[Ancestor], named: Sequence[Ancestor]) -> dict[str, Any]:
    some = [m for m in models if m.sharing.split("-")[0] == name]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": name,
        "x": [_years(m) for m in some],
        "y": [m.share for m in some],
        "text": [plain(m.label) if m in named else "" for m in some],
        "textposition": [_side(m, models) for m in some],
        "cliponaxis": False,
        "marker": {
            "color": theme.SHARING_COLORS[name],
            "size": [_size(m.n_parameters) for m in some],
            "opacity": 0.85,
            "line": {"width": 1, "color": "#fff"},
        },
        "customdata": [
            f"<b>{plain(m.label)}</b>, {m.sharing}, {m.released}<br>{parameters(m.n_parameters)} parameters<br>"
            f"{binary_bytes(m.bytes_per_token)} per token held<br>{percent(m.share)} of full-length MHA"
            for m in some
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _side(model: Ancestor, models: Sequence[Ancestor]) -> str:
    """The position of the model's name: above its marker, or below if another marker is just above."""
    under = any(abs(_month(m) - _month(model)) < 4 and 1.05 < m.share / model.share < 1.6 for m in models)
    return "bottom center" if under else "top center"


def _size(n_parameters: int | None) -> float:
    """Diameter of the marker in pixels: 8 up to a billion parameters or if not known, 5 more for each factor of ten."""
    return 8.0 if not n_parameters else min(26.0, max(8.0, 8 + 5 * log10(n_parameters / 1e9)))


def _named(models: Sequence[Ancestor], months: int = 4) -> list[Ancestor]:
    """The models that get a name: the smallest share of each generation, unless two names would overlap."""
    best: dict[int, Ancestor] = {}
    for model in models:
        if model.lineage not in best or model.share < best[model.lineage].share:
            best[model.lineage] = model
    kept: list[Ancestor] = []
    for model in best.values():
        near = [m for m in kept if abs(_month(m) - _month(model)) < months and 0.75 < m.share / model.share < 1.33]
        if not near:
            kept.append(model)
    return kept


def _month(model: Ancestor) -> int:
    year, month = model.released.split("-")[:2]
    return 12 * int(year) + int(month)


def _years(model: Ancestor) -> float:
    """The release as a number: 2024.5 is the beginning of July 2024."""
    year, month, *day = (int(part) for part in model.released.split("-"))
    return year + (month - 1 + ((day[0] - 1) / 31 if day else 0)) / 12
