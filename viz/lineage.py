"""A family of models by release: how its caches shrank against multi-head attention."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go

from attention.lineage import Ancestor
from attention.units import binary_bytes, parameters
from viz import build, theme
from viz.compare import percent


def plot_lineage(models: Sequence[Ancestor], *, family: str, height: int = 380) -> go.Figure:
    """A marker per model: share of full-length MHA over the release date, larger for more parameters."""
    if not models:
        name = f"{family}: cache as a share of multi-head attention"
        return theme.empty(name, "No published sizes in this family.", height)
    traces = [_markers(name, models) for name in ("MHA", "GQA", "MQA", "MLA")]
    notes = [_name(m, models) for m in _named(models)]
    return build.figure(
        [trace for trace in traces if trace["x"]],
        height=height,
        x={"type": "date", "title": build.title("Released"), "showgrid": False},
        y=build.share_axis(min(m.share for m in models) / 1.5, "Share of full-length MHA"),
        annotations=notes,
        showlegend=True,
        margin={"l": 8, "t": 28, "r": 48, "b": 8},
    )


def _markers(name: str, models: Sequence[Ancestor]) -> dict[str, Any]:
    some = [m for m in models if m.sharing.split("-")[0] == name]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [m.released for m in some],
        "y": [m.share for m in some],
        "marker": {
            "color": theme.SHARING_COLORS[name],
            "size": [_size(m.n_parameters) for m in some],
            "opacity": 0.85,
            "line": {"width": 1, "color": "#fff"},
        },
        "customdata": [
            f"<b>{m.label}</b>, {m.sharing}<br>{parameters(m.n_parameters)} parameters<br>"
            f"{binary_bytes(m.bytes_per_token)} per token held<br>{percent(m.share)} of full-length MHA"
            for m in some
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
    }


def _name(model: Ancestor, models: Sequence[Ancestor]) -> dict[str, Any]:
    """The model's name above its marker; below it where another marker lies just above."""
    under = any(abs(_month(m) - _month(model)) < 4 and 1.05 < m.share / model.share < 1.6 for m in models)
    side: dict[str, Any] = {"yanchor": "top", "yshift": -9} if under else {"yanchor": "bottom", "yshift": 9}
    return build.note(model.released, log10(model.share), model.label, **side)


def _size(n_parameters: int | None) -> float:
    """Marker diameter in pixels: 8 up to a billion parameters (or not known), 5 more per factor of ten."""
    return 8.0 if not n_parameters else min(26.0, max(8.0, 8 + 5 * log10(n_parameters / 1e9)))


def _named(models: Sequence[Ancestor], months: int = 4) -> list[Ancestor]:
    """Who carries a name: the smallest share of each generation, unless its name would lie on another's."""
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
