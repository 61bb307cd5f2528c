"""Models ranked by their caches: a bar each, equal ones in one bar with all their names. What the pointer or the
keyboard is on stands out, the rest fades."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ui.components.component import component
from viz.compare import RankedBar

_component = component(Path(__file__).parent)


def ranking(bars: Sequence[RankedBar], *, key: str, label: str) -> None:
    """Draw the bars.

    Args:
        bars: of ``viz.compare.ranking``, the longest first.
        key: stable key of the element.
        label: what is ranked, for people who cannot see it.
    """
    _component(key=key, data={"bars": [bar._asdict() for bar in bars], "label": label})
