"""Figures made from plain dictionaries, because every moved slider draws them again.

Plotly checks every property when it is set, which takes longer than the rest of a redraw. Here a figure is made in one
step without checks. Instead the tests give every figure to Plotly's own checks (``checked``), which finds the same
mistakes earlier.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import ceil, floor, log2, log10
from typing import Any

import plotly.graph_objects as go

from attention.units import binary_bytes, tokens
from viz import theme

Part = dict[str, Any]

_BELOW, _TITLE = 24, 28  # pixels for a row of labels below the figure, and for the title of an axis
_CHARACTER, _APART = 7.1, 12  # pixels of a character, and of the gap beside the labels


class Parts(go.Figure):
    """A figure that returns its own parts, not copies: to copy them takes longer than to serialise them."""

    def to_dict(self) -> dict[str, Any]:
        return {"data": self._data, "layout": self._layout}


def figure(
    traces: Sequence[Part],
    *,
    height: int,
    x: Part,
    y: Part,
    annotations: Sequence[Part] = (),
    shapes: Sequence[Part] = (),
    **layout: Any,
) -> go.Figure:
    """A figure in Headshare's look from traces (each with its ``type``), two axes, annotations and shapes.

    The margins for the axes' labels are computed here: Plotly's own ``automargin`` lays the figure out twice, which
    takes a quarter of a redraw. An axis that sets ``automargin`` still gets it.
    """
    margin = dict(layout.pop("margin", {}))
    if not x.get("automargin"):
        margin["b"] = max(margin.get("b", 0), _BELOW * x.get("visible", True) + _TITLE * bool(_title_of(x)))
    if not y.get("automargin"):
        margin["l"] = max(margin.get("l", 0), _label_width(traces, y) + _TITLE * bool(_title_of(y)))
    whole = {
        "height": height,
        "xaxis": {"automargin": False, **x},
        "yaxis": {"automargin": False, **y},
        "annotations": list(annotations),
        "shapes": list(shapes),
        "margin": margin,
    }
    return Parts(
        data=list(traces), layout={"template": theme.TEMPLATE, "showlegend": False, **whole, **layout}, _validate=False
    )


def _title_of(axis: Part) -> str:
    return str(axis.get("title", {}).get("text") or "")


def _label_width(traces: Sequence[Part], y: Part) -> int:
    """Width of the vertical axis's labels in pixels, with the template's font of 13 pixels."""
    if not y.get("visible", True):
        return 0
    named = [v for trace in traces if trace.get("orientation") == "h" for v in trace.get("y", ()) if isinstance(v, str)]
    longest = max((len(re.sub("<[^>]*>", "", label)) for label in y.get("ticktext") or named), default=6)
    return round(_CHARACTER * longest) + _APART


def checked(fig: go.Figure) -> go.Figure:
    """A copy of the figure that has passed Plotly's checks.

    Raises:
        ValueError: a property does not exist, or has a value that Plotly does not accept.
    """
    return go.Figure(fig.to_dict())


_TOKENS_HOVERED = {"text": "%{x:,.0f} tokens"}
"""Heading of a hover text that lists all series at one context; the axis's own heading would be "10.321k"."""


def title(text: str) -> Part:
    return {"text": text}


def token_axis(low: int, high: int, name: str = "Context (tokens)") -> Part:
    """Logarithmic axis of tokens from `low` to `high`, labelled 1k, 8k, 128k."""
    ticks = _powers_of_two(low, high, 9, among=10)
    return {
        "type": "log",
        "range": [log10(low), log10(max(high, low + 1))],
        "tickvals": ticks,
        "ticktext": [tokens(t) for t in ticks],
        "title": title(name),
        "unifiedhovertitle": _TOKENS_HOVERED,
    }


def linear_token_axis(high: int, name: str = "Context (tokens)") -> Part:
    """Axis of tokens from 0 to `high`."""
    ticks = [high * i // 4 for i in range(5)]
    return {"range": [0, high], "tickvals": ticks, "ticktext": [tokens(t) for t in ticks], "title": title(name),
            "unifiedhovertitle": _TOKENS_HOVERED}  # fmt: skip


def bytes_axis(low: float, high: float, name: str = "", *, log: bool = False) -> Part:
    """Axis of bytes with ticks at round binary sizes; linear from 0, or logarithmic."""
    if log:
        ticks: list[float] = [float(t) for t in _powers_of_two(low, high, 7, among=30)]
        where = [log10(low), log10(high)]
    else:
        step = 2.0 ** ceil(log2(max(high, 1) / 6))
        ticks = [step * i for i in range(int(high / step) + 1)]
        where = [0.0, high]
    return {
        "type": "log" if log else "linear",
        "range": where,
        "tickvals": ticks,
        "ticktext": [_round_size(t) for t in ticks],
        "title": title(name),
    }


def share_axis(low: float, name: str) -> Part:
    """Logarithmic axis of a share of MHA, from `low` to a little above 1, labelled MHA, 1/2, 1/4 …"""
    ticks = [2.0**-p for p in range(14) if 2.0**-p >= low]
    names = ["MHA" if t == 1 else f"1/{round(1 / t)}" for t in ticks]
    return {
        "type": "log",
        "range": [log10(low), log10(1.6)],
        "tickvals": ticks,
        "ticktext": names,
        "title": title(name),
    }


def line_across(y: float) -> Part:
    """A thin horizontal line over the whole width, such as the weights."""
    return {
        "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": y, "y1": y,
        "line": {"color": theme.NEUTRAL, "width": 1, "dash": "dash"},
    }  # fmt: skip


def line_down(x: float) -> Part:
    """A thin vertical line over the whole height, such as the chosen context."""
    return {
        "type": "line", "yref": "paper", "y0": 0, "y1": 1, "xref": "x", "x0": x, "x1": x,
        "line": {"color": theme.NEUTRAL, "width": 1, "dash": "dot"},
    }  # fmt: skip


def note(x: float | str, y: float, text: str, **options: Any) -> Part:
    """Text at a point. The coordinates are the axis's: on a logarithmic axis the logarithm of the value."""
    return {"x": x, "y": y, "text": text, "showarrow": False, **options}


def _powers_of_two(low: float, high: float, most: int, among: int) -> list[int]:
    """About `most` powers of two in [low, high] at equal steps; the steps are such that they meet 2**among."""
    powers = range(max(0, ceil(log2(max(low, 1)))), floor(log2(max(high, 1))) + 1)
    step = max(1, ceil(len(powers) / most))
    return [2**p for p in powers if (p - among) % step == 0]


def _round_size(n: float) -> str:
    """A round size without zeros after the point: 8 GiB, not 8.00 GiB."""
    number, _, unit = binary_bytes(n).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}" if n else "0"
