"""One row times a matrix beside many rows times the same matrix: queries and the keys of one K/V head, in decode and in
prefill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attention.serving.queries import Meeting
from attention.units import significant
from ui.components.component import component

_component = component(Path(__file__).parent, plays=True)


def one_row(decode: Meeting, prefill: Meeting, *, key: str) -> None:
    """Draw decode and prefill side by side, with the busy share of memory and processor in each."""
    _component(
        key=key,
        data={
            "title": "The keys of one K/V head, met by the queries of decode and of prefill",
            "panels": [_panel("Decode", "the new token", decode), _panel("Prefill", "the whole prompt", prefill)],
        },
    )


def _panel(name: str, whose: str, meeting: Meeting) -> dict[str, Any]:
    return {
        "name": name,
        "whose": whose,
        "rows": meeting.rows,
        "queries": f"{meeting.rows:,} {'query' if meeting.rows == 1 else 'queries'}",
        "intensity": significant(meeting.floor.intensity),
        "memory": meeting.memory_busy,
        "processor": meeting.processor_busy,
    }
