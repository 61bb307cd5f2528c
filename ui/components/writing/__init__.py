"""Columns side by side: one model writes with several sharings of its K/V heads at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ui.components.component import component

_component = component(Path(__file__).parent)


class Column(NamedTuple):
    """One column.

    Attributes:
        kind: small text beside the name.
        colors: one colour for each K/V head. group: number of query heads that read each K/V head.
        live: whether the text is still being written.
        share: the cache's size over the largest that any column can reach, 0 to 1.
        figures: (name, value) pairs below the text.
        state: one line under the text. waiting: text that is shown before the column's own text begins.
    """

    name: str
    kind: str
    color: str
    colors: Sequence[str]
    group: int
    text: str
    live: bool
    share: float
    figures: Sequence[tuple[str, str]]
    state: str
    waiting: str


def writing(columns: Sequence[Column], *, key: str, alt: str) -> None:
    """Draw the columns, side by side where there is room.

    Args:
        key: stable key of the element.
        alt: what is shown, for people who cannot see it.
    """
    _component(key=key, data={"columns": [column._asdict() for column in columns], "alt": alt})
