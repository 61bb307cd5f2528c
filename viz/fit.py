"""What fits: a map over context and batch, with the frontier of what fits."""

from __future__ import annotations

from math import log2, sqrt
from typing import Any

import plotly.graph_objects as go

from attention.serving.plan import FitMap
from attention.units import binary_bytes, counted, held, tokens
from viz import figure, theme

_FULL, _EMPTY = "rgba(14, 116, 144, 0.75)", "rgba(14, 116, 144, 0.12)"
"""The colours are translucent, so that text on them can have the colour of the page's theme."""
_WARN = "#D55E00"


def plot_fit_map(numbers: FitMap, *, height: int = 352) -> go.Figure:
    """The share of the usable memory in every cell that fits; the line is the largest batch at each context.

    Both axes run in powers of two, so all cells have the same size and each is a doubling.
    """
    grid = numbers.grid
    if not grid.contexts or not grid.batches:
        return theme.empty("What fits", height=height)
    usable = max(grid.usable_bytes, 1)
    shares = [
        [used / usable if ok else None for used, ok in zip(row, oks, strict=True)]
        for row, oks in zip(grid.used_bytes, grid.fits, strict=True)
    ]
    x, y = [log2(c) for c in grid.contexts], [log2(b) for b in grid.batches]
    cells = {
        "type": "heatmap", "x": x, "y": y, "z": shares, "zmin": 0, "zmax": 1, "xgap": 2, "ygap": 2,
        "colorscale": [[0, _EMPTY], [1, _FULL]], "showscale": False,
        "text": _shares(numbers, shares),
        "texttemplate": "%{text}", "textfont": {"size": 12},
        "customdata": _hover(numbers), "hovertemplate": "%{customdata}<extra></extra>", "hoverongaps": True,
    }  # fmt: skip
    return figure.figure(
        [cells, *_frontier(numbers), _chosen(numbers)],
        height=height,
        x=_axis(x, [tokens(c) for c in grid.contexts], "Context (tokens)"),
        y=_axis(y, [f"{b:,}" for b in grid.batches], "Batch (sequences)"),
        annotations=_notes(numbers, x, y),
        plot_bgcolor="rgba(128, 140, 150, 0.08)",
        margin={"l": 8, "r": 16, "t": 8, "b": 60},
    )


def _axis(at: list[float], names: list[str], name: str) -> dict[str, Any]:
    return {
        "range": [at[0] - 0.5, at[-1] + 0.5], "tickvals": at, "ticktext": names, "showgrid": False,
        "title": figure.title(name),
    }  # fmt: skip


def _hover(numbers: FitMap) -> list[list[str]]:
    grid = numbers.grid
    usable = binary_bytes(grid.usable_bytes)
    return [
        [
            f"{b:,} × {held(c)}: {binary_bytes(used)} of {usable}" + ("" if ok else ", does not fit")
            for c, used, ok in zip(grid.contexts, row, oks, strict=True)
        ]
        for b, row, oks in zip(grid.batches, grid.used_bytes, grid.fits, strict=True)
    ]


def _line(batch: int) -> float:
    """Height of the frontier: between the last batch that fits and the next one; below the map if no sequence fits."""
    return log2(sqrt(batch * (batch + 1))) if batch >= 1 else -1.0


def _shares(numbers: FitMap, shares: list[list[float | None]]) -> list[list[str]]:
    """The shares in per cent as text; empty where the frontier would cross the text."""
    line = {c: _line(b) for c, b in zip(numbers.contexts, numbers.frontier, strict=True)}
    return [
        [
            "" if share is None or abs(line.get(c, -1.0) - log2(b)) < 0.35 else f"{100 * share:.0f}"
            for c, share in zip(numbers.grid.contexts, row, strict=True)
        ]
        for b, row in zip(numbers.grid.batches, shares, strict=True)
    ]


def _frontier(numbers: FitMap) -> list[dict[str, Any]]:
    points = list(zip(numbers.contexts, numbers.frontier, strict=True))
    if not any(b >= 1 for _, b in points):
        return []
    return [
        {
            "type": "scatter", "mode": "lines", "x": [log2(c) for c, _ in points], "y": [_line(b) for _, b in points],
            "line": {"color": _WARN, "width": 3, "shape": "hv"},
            "customdata": [f"at {held(c)} at most {counted(int(b), 'sequence')}" for c, b in points],
            "hovertemplate": "%{customdata}<extra></extra>",
        }
    ]  # fmt: skip


def _chosen(numbers: FitMap) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": [log2(numbers.context)], "y": [log2(numbers.batch)],
        "marker": {"size": 28, "symbol": "circle-open", "color": "#E69F00", "line": {"width": 4}},
        "hovertemplate": f"chosen: {numbers.batch:,} × {held(numbers.context)}<extra></extra>",
    }  # fmt: skip


def _notes(numbers: FitMap, x: list[float], y: list[float]) -> list[dict[str, Any]]:
    if not any(map(any, numbers.grid.fits)):
        text = "Nothing fits: the weights and the reserve alone fill the memory."
        return [figure.note((x[0] + x[-1]) / 2, (y[0] + y[-1]) / 2, text, font={"size": 16})]
    if numbers.grid.fits[-1][-1]:
        return []
    return [figure.note(x[-1] + 0.4, y[-1], "does not fit", xanchor="right")]
