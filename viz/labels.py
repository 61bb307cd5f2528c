"""Names at the ends of lines in place of a legend; names that would overlap are moved apart."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any, NamedTuple

from viz import theme
from viz.text import plain

LINE_PX = 17
"""Height of one label."""


class EndLabel(NamedTuple):
    """Text beside the last point (x, y) of a series; `strong` stands before it in bold. Both are escaped later."""

    x: float
    y: float
    text: str
    color: str = theme.NEUTRAL
    dash: str = "solid"
    strong: str = ""


_MARKS = {"solid": "●", "dash": "╍╍", "dot": "•••", "dashdot": "╍•", "longdash": "━ ━"}
"""Dash of a line -> the mark before its name."""


def dot(color: str, text: str, dash: str = "solid") -> str:
    """`text` after a mark in the series' colour; the text itself gets the page's colour from the style sheet."""
    return f'<span style="color:{color}">{_MARKS[dash]}</span> {text}'


def end_labels(
    labels: Sequence[EndLabel], y_range: tuple[float, float], plot_height_px: float, *, log: bool = True
) -> list[dict[str, Any]]:
    """Annotations right of the plot, moved so that none overlaps another.

    Args:
        y_range: lowest and highest y of the axis, as data (not logarithms).
        plot_height_px: height of the plotting area in pixels; `y_range` fills it.
        log: whether both axes are logarithmic; otherwise both are linear.
    """
    scale = log10 if log else float
    low, high = scale(y_range[0]), scale(y_range[1])
    per_px = (high - low) / plot_height_px or 1.0
    rising = sorted(labels, key=lambda item: item.y)
    placed: list[float] = []
    for label in rising:
        wanted = scale(label.y) / per_px
        placed.append(max(wanted, placed[-1] + LINE_PX) if placed else wanted)
    # labels that are above the top now: move them down, only as far as needed
    ceiling = high / per_px
    for i in range(len(placed) - 1, -1, -1):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - LINE_PX
    return [
        {
            "x": scale(label.x),
            "y": scale(label.y),
            "text": dot(label.color, _written(label), label.dash),
            "showarrow": False,
            "xanchor": "left",
            "xshift": 6,
            "yshift": at - scale(label.y) / per_px,
            "align": "left",
        }
        for label, at in zip(rising, placed, strict=True)
    ]


def margin_for(labels: Sequence[EndLabel], most: int = 220) -> int:
    """Margin right of the plot for the longest label, in pixels (about 7 for a character of 13-pixel text)."""
    return min(most, 28 + 7 * max((len(label.strong + label.text) for label in labels), default=0))


def _written(label: EndLabel) -> str:
    return (f"<b>{plain(label.strong)}</b>" if label.strong else "") + plain(label.text)
