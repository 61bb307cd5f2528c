"""The look of every figure: one Plotly template, one colour per K/V head, readable axes.

The template fits light and dark pages: its background is transparent and its lines are mid-grey. The app's style sheet
gives the text the page's colour, so a figure follows a change of theme and is not drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, cos, floor, log2, radians, sin

import plotly.graph_objects as go
import plotly.io as pio

from attention.spec import Kind
from attention.units import binary_bytes, tokens

NEUTRAL = "#768390"
"""Colour of text in a downloaded figure and of lines without a series; its contrast is at least 3.5:1 on white and on
the dark page."""
GRID = "rgba(128, 140, 150, 0.20)"
GHOST = "rgba(128, 140, 150, 0.35)"
"""Colour of counterfactuals, limits and empty slots."""
ACCENT = "#0e7490"
ACCENT_MID = "#1791a8"
"""The accent colour for areas, visible on light and on dark pages."""
QUIET = "#9AA5AD"
"""Colour of an area that is only there for comparison."""
FONT = '"Source Sans", "Source Sans Pro", "Segoe UI", system-ui, sans-serif'

_BASE = ("#0072B2", "#009E73", "#56B4E9", "#D55E00", "#EBAD97", "#6E605B", "#E69F00", "#CC79A7")
"""Okabe and Ito's palette (jfly.uni-koeln.de/color). Its yellow and black are not visible on both backgrounds; in their
place are peach and brown-grey, found by a search for the largest distance to the others with full, protan and deutan
sight. The order makes neighbours differ."""

KIND_COLORS: dict[Kind, str] = {
    Kind.FULL: "#0072B2",
    Kind.SLIDING: "#56B4E9",
    Kind.CHUNKED: "#009E73",
    Kind.LATENT: "#CC79A7",
    Kind.COMPRESSED: "#6E605B",
    Kind.SHARED: "#8A949E",
    Kind.RECURRENT: "#E69F00",
    Kind.CROSS: "#D55E00",
    Kind.NONE: "#B4BBC2",
}

SHARING_COLORS = {"MHA": "#8A949E", "GQA": "#0072B2", "MQA": "#D55E00", "MLA": "#CC79A7"}
"""Colours of the sharings, and of MLA, when they stand side by side."""

SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B6BB5", "#8C7A1A")
"""Colours of series that are not K/V heads, such as models and implementations."""

DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """OKLCH (Björn Ottosson, bottosson.github.io/posts/oklab) as sRGB; chroma is reduced until it is in gamut."""
    while True:
        a, b = chroma * cos(radians(hue)), chroma * sin(radians(hue))
        l_, m_, s_ = (
            (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3,
            (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3,
            (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3,
        )
        linear = (
            4.0767416621 * l_ - 3.3077115913 * m_ + 0.2309699292 * s_,
            -1.2684380046 * l_ + 2.6097574011 * m_ - 0.3413193965 * s_,
            -0.0041960863 * l_ - 0.7034186147 * m_ + 1.7076147010 * s_,
        )
        if all(-1e-4 <= c <= 1.0001 for c in linear) or chroma < 0.005:
            break
        chroma *= 0.96
    out = []
    for c in linear:
        c = min(1.0, max(0.0, c))
        out.append(round(255 * (12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055)))
    return "#{:02X}{:02X}{:02X}".format(*out)


@lru_cache(maxsize=1024)
def kv_color(i: int, n: int) -> str:
    """Colour of K/V head `i` of `n`, the same in every picture.

    The first eight colours do not depend on `n`. Further heads step around the hue circle by the golden angle, and
    their lightness cycles through three levels, so that neighbours differ in both.

    Raises:
        ValueError: i is not in [0, n).
    """
    if not 0 <= i < n:
        raise ValueError(f"i must be between 0 and n - 1 = {n - 1}, got {i!r}")
    if i < len(_BASE):
        return _BASE[i]
    return _oklch((0.56, 0.72, 0.64)[i % 3], 0.12, (i * 137.508 + 40) % 360)


def kv_colors(n: int) -> list[str]:
    return [kv_color(i, n) for i in range(n)]


def series_color(i: int) -> str:
    """Colour of series `i`. After eight series the colours repeat; ``series_dash`` then differs."""
    return SERIES[i % len(SERIES)]


def series_dash(i: int) -> str:
    return DASHES[(i // len(SERIES)) % len(DASHES)]


def _axis() -> dict[str, object]:
    return {
        "gridcolor": GRID,
        "gridwidth": 1,
        "linecolor": GHOST,
        "zeroline": False,
        "ticks": "",
        "automargin": True,
        "separatethousands": True,
        "title": {"standoff": 10, "font": {"size": 13}},
    }


TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 13, "color": NEUTRAL},
        "title": {"font": {"size": 15}, "x": 0, "xanchor": "left", "xref": "paper", "automargin": True},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": list(SERIES),
        "margin": {"l": 8, "r": 16, "t": 28, "b": 8},
        "xaxis": _axis(),
        "yaxis": {**_axis(), "ticklabelstandoff": 5},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "title": {"text": ""}},
        "hoverlabel": {"font": {"family": FONT, "size": 13, "color": "#f5f7f8"}, "bgcolor": "#263238", "align": "left"},
        "bargap": 0.35,
        "uniformtext": {"mode": "hide", "minsize": 10},
        "hovermode": "closest",
        # scrolling the page with a finger must not zoom the figure; the mode bar has a zoom button
        "dragmode": False,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GHOST, "activecolor": ACCENT},
        "colorscale": {"sequential": "Viridis"},
    }
)
pio.templates["headshare"] = TEMPLATE
pio.templates.default = "headshare"


def apply(fig: go.Figure, *, height: int | None = None, title: str | None = None) -> go.Figure:
    """Give a figure the template; figures made after the import of this module have it already."""
    fig.update_layout(template="headshare")
    if height is not None:
        fig.update_layout(height=height)
    if title is not None:
        fig.update_layout(title_text=title)
    return fig


def enlarged(fig: go.Figure, factor: float = 1.35) -> go.Figure:
    """The figure with its text `factor` times as large, for the screen of a lecture; the figure itself is changed."""

    def grown(size: float | None, usual: float) -> float:
        return round((size or usual) * factor)

    layout = fig.layout
    fig.update_layout(
        font_size=grown(layout.font.size, 13), hoverlabel_font_size=grown(layout.hoverlabel.font.size, 13)
    )
    for axis in (*fig.select_xaxes(), *fig.select_yaxes()):
        axis.title.font.size = grown(axis.title.font.size, 13)
        if axis.tickfont.size:
            axis.tickfont.size = grown(axis.tickfont.size, 13)
    for note in layout.annotations:
        if note.font.size:
            note.font.size = grown(note.font.size, 13)
    for trace in fig.data:
        if "textfont" in trace and trace.textfont.size:
            trace.textfont.size = grown(trace.textfont.size, 13)
    return fig


def empty(title: str, note: str = "Nothing to show yet.", height: int = 320) -> go.Figure:
    """A titled figure without data, for empty input."""
    fig = apply(go.Figure(), height=height, title=title)
    fig.add_annotation(text=note, showarrow=False, xref="paper", yref="paper", x=0.5, y=0.5)
    return fig.update_xaxes(visible=False).update_yaxes(visible=False)


def _powers(low: float, high: float, step: int) -> list[int]:
    first, last = floor(log2(max(low, 1))), ceil(log2(max(high, 1)))
    return [2**p for p in range(first, last + 1) if p % step == 0]


def token_axis(fig: go.Figure, low: int, high: int, *, axis: str = "x", title: str = "Context (tokens)") -> go.Figure:
    """Logarithmic axis of tokens, labelled 1k, 8k, 128k."""
    ticks = _powers(low, high, 1)
    if len(ticks) > 9:
        # keep powers of four or eight, such as 1k, 8k, 64k, with 1k among them
        ticks = [t for t in ticks if (t.bit_length() - 1 - 10) % (2 if len(ticks) <= 16 else 3) == 0]
    update = fig.update_xaxes if axis == "x" else fig.update_yaxes
    update(type="log", tickvals=ticks, ticktext=[tokens(t) for t in ticks], title_text=title, minor_ticks="")
    return fig


def bytes_axis(
    fig: go.Figure, high: float, low: float = 0, *, axis: str = "y", log: bool = False, title: str = ""
) -> go.Figure:
    """Axis of bytes with ticks at round binary sizes (GiB), linear from 0 or logarithmic from `low`."""
    if log:
        step = max(1, ceil((log2(max(high, 2)) - log2(max(low, 1))) / 7))
        ticks: Sequence[float] = _powers(low, high, step)
    else:
        ticks = _round_binary(high)
    update = fig.update_xaxes if axis == "x" else fig.update_yaxes
    labels = ["0" if t == 0 else binary_bytes(t) for t in ticks]
    update(tickvals=list(ticks), ticktext=labels, title_text=title)
    update(type="log") if log else update(rangemode="tozero")
    return fig


def _round_binary(high: float, most: int = 6) -> list[float]:
    """0 and the multiples of a step up to `high`; the step is a power of two."""
    step = 2.0 ** ceil(log2(max(high, 1) / most))
    return [step * i for i in range(int(high / step) + 1)]


def ghost_line(fig: go.Figure, x: Sequence[float], row: str, width: float) -> None:
    """Draw a pale line along a row, behind the marks that it joins."""
    fig.add_scatter(
        x=list(x), y=[row] * len(x), mode="lines", line={"color": GHOST, "width": width},
        showlegend=False, hoverinfo="skip",
    )  # fmt: skip
