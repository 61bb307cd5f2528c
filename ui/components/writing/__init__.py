"""Columns in which one model, its K/V heads shared in several ways, writes at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ui.components.component import component

_component = component(Path(__file__).parent)


class Column(NamedTuple):
    """A column as drawn.

    Attributes:
        kind: beside the name, in small letters.
        colors: one for each K/V head; group: query heads that read each.
        share: the cache beside the largest it can become in any column, 0 to 1.
        figures: (name, value) below the text.
        state: one line under the text; waiting: said in the place of a text that has not begun.
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
