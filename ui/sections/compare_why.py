"""Why a compared model's cache is so small: the waterfall of one model, at first the one that saves most."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attention.memory.comparison import MAX_COLUMNS, Compared
from attention.memory.load import Load
from attention.memory.waterfall import waterfall
from attention.spec import ModelSpec
from ui import params
from ui.sections.waterfall import why_so_small
from ui.state import name_anew

PARAM = params.integer("cmp_why", 0, 0, MAX_COLUMNS - 1)


def times_smaller(spec: ModelSpec, load: Load) -> float:
    """How many times smaller the cache is than with plain multi-head attention over all tokens."""
    steps = waterfall(spec, load)
    return steps[0].state_bytes / max(1, steps[-1].state_bytes) if steps else 1.0


def show(rows: Sequence[Compared], load: Load) -> None:
    """Draw the waterfall, and the choice among models to which at least one idea applies, the largest saving first."""
    found = [(row.label, row.spec) for row in rows if row.spec is not None and len(waterfall(row.spec, load)) > 1]
    if not found:
        return
    found.sort(key=lambda pair: -times_smaller(pair[1], load))
    if st.session_state["cmp_why"] >= len(found):
        st.session_state["cmp_why"] = 0
    name_anew("cmp_why", [label for label, _ in found])
    place = st.container()
    chosen = st.selectbox("Why it is so small", range(len(found)), format_func=lambda i: found[i][0], key="cmp_why")
    with place:
        label, spec = found[int(chosen or 0)]
        why_so_small(spec, load, key="cmp_waterfall", label=label)
