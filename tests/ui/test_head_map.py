"""The layout of the head map: its properties at every size, computed by the map's own JavaScript in node."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import playwright
import pytest

LAYOUT = (Path(__file__).parents[2] / "ui" / "components" / "head_map" / "layout.js").read_text(encoding="utf-8")
PROPERTIES = Path(__file__).with_name("head_map_properties.js").read_text(encoding="utf-8")
NODE = Path(playwright.__file__).parent / "driver" / "node"
"""Comes with Playwright's wheel, which the browser tests need too: nothing further is installed."""

SPOILT = {
    "each query head is joined to the K/V head of its group": (
        "Math.floor(i / group) * group",
        "Math.round(i / group) * group",
    ),
    "each K/V head is kept once, on a slot of its own group": (
        "return first + Math.floor((group - 1) / 2);",
        "return first + group;",
    ),
    "a K/V head that is not kept lies on the one of its group": (
        "const read = at.keptSlot(at.keeper(i));",
        "const read = at.keptSlot(i);",
    ),
    "query heads do not overlap": ("pitch * 0.4", "pitch * 0.6"),
    "slots do not overlap": ("pitch * 0.72", "pitch * 1.2"),
    "K/V heads do not overlap": ("group >= rows ? unitTop : slot(i).unit", "unitTop"),
    "query heads stand in order, in columns of neighbours": (
        "head: top + rowPitch * (i % rows)",
        "head: top - rowPitch * (i % rows)",
    ),
    "groups that fill their columns stand apart": ("(column + 0.75 * crossed)", "(column + 0.25 * crossed)"),
    "everything is inside the drawing": ("pitch * (columns + gaps)", "pitch * columns"),
    "K/V heads stand below all query heads, and the new token above": ("(stage > 0 ? 46 : 0)", "(stage > 0 ? 36 : 0)"),
    "numbers lie inside what they name": ("at.radius >= 8.4", "at.radius >= 6"),
    "names of rows lie beside or between the rows": ("wide ? 0 : 20", "wide ? 0 : 4"),
    "the word for the new token is inside the drawing": ("at.wide ? \"heads' results", "true ? \"heads' results"),
    "cached tokens fill their part of a column": ("(full - room) * data.held", "full * data.held"),
    "the new token's cell is in the column, below what is cached once it is appended": (
        "data.stage >= 2 ? at.unitHeight - cell",
        "false ? at.unitHeight - cell",
    ),
}
"""For each property a change that breaks it: a piece of the layout's source, and what replaces it."""


def computed(layout: str, only: str | None = None) -> Any:
    """How many layouts were looked at, and up to five that break each property; with `only`, the first to break it."""
    script = f"{layout}const only = {json.dumps(only)};\n{PROPERTIES}"
    done = subprocess.run([NODE, "-"], input=script, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def sound() -> Any:
    return computed(LAYOUT)


def test_every_property_is_looked_at(sound: Any) -> None:
    assert set(sound["broken"]) == set(SPOILT)
    # some 700 pairs of query heads and a divisor, 23 widths, up to five kinds of drawing
    assert sound["layouts"] > 60_000


@pytest.mark.parametrize("name", SPOILT)
def test_it_holds_at_every_size(name: str, sound: Any) -> None:
    assert sound["broken"][name] == []


@pytest.mark.parametrize("name", SPOILT)
def test_a_layout_that_breaks_it_is_found(name: str) -> None:
    piece, other = SPOILT[name]
    assert LAYOUT.count(piece) == 1
    assert computed(LAYOUT.replace(piece, other), name)["broken"][name]
