"""Models ranked by their caches: one bar for each size, with the names of all models of this size. The bar under the
pointer or the keyboard's focus stands out, the others fade, and so do the other models' lines in a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ui.components.component import component
from viz.compare import RankedBar

_component = component(Path(__file__).parent)


def ranking(bars: Sequence[RankedBar], *, key: str, label: str, figure: str) -> None:
    """Draw the bars.

    Args:
        bars: made by ``viz.compare.ranking``, the longest first.
        key: stable key of the element.
        label: what is ranked, for people who cannot see it.
        figure: key of a Plotly figure on the page whose lines have the models' names.
    """
    _component(key=key, data={"bars": [bar._asdict() for bar in bars], "label": label, "figure": figure})
