"""Generation without a cache and with one: each row is a step, each cell the keys and values of one token."""

from __future__ import annotations

from pathlib import Path

from ui.components.component import component

_WORDS = "the cache keeps every token so none is computed again"
_component = component(Path(__file__).parent, plays=True)


def recompute(*, key: str) -> None:
    """Draw the picture; it shows its last step and waits for Play."""
    _component(key=key, data={"title": "Writing without a cache and with one", "words": _WORDS.split()})
