"""The ledger of definitions as bars."""

from __future__ import annotations

from collections.abc import Sequence

from attention.engines.ledger import Entry
from attention.units import binary_bytes, ratio
from viz.bars import Bar
from viz.theme import ACCENT, ACCENT_MID

KIND_COLORS = {
    "needed": ACCENT,
    "own code": ACCENT_MID,
    "reserved": "#E69F00",
    "step": "#009E73",
    "printed": "#7B6BB5",
}
KIND_NAMES = {
    "needed": "needed",
    "own code": "kept by the model's own code",
    "reserved": "set aside by an engine",
    "step": "of a decode step",
    "printed": "concluded from the tokens printed",
}


def ledger(entries: Sequence[Entry]) -> tuple[Bar, ...]:
    """A bar for each definition whose rule is known; its text says how many times the needed bytes it is."""
    least = next((entry.n_bytes for entry in entries if entry.kind == "needed" and entry.n_bytes), None)

    def beside(entry: Entry) -> str:
        size = binary_bytes(entry.n_bytes or 0)
        if entry.kind == "needed" or not least or entry.n_bytes == least:
            return size
        return f"{size} · {ratio((entry.n_bytes or 0) / least)}"

    return tuple(
        Bar(entry.name, beside(entry), entry.n_bytes, KIND_COLORS[entry.kind], own=entry.kind == "needed")
        for entry in entries
        if entry.n_bytes is not None
    )


def legend(entries: Sequence[Entry]) -> str:
    """HTML: what the colours of the bars mean."""
    dot = "display:inline-block;width:0.7em;height:0.7em;border-radius:2px;margin-right:0.4em"
    names = [
        '<span style="white-space:nowrap;margin-right:1.2em">'
        f'<span style="{dot};background:{KIND_COLORS[kind]}"></span>{KIND_NAMES[kind]}</span>'
        for kind in dict.fromkeys(entry.kind for entry in entries)
    ]
    return f'<p style="font-size:0.85rem;margin:0;line-height:1.8">{" ".join(names)}</p>'
