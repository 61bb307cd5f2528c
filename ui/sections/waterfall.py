"""Why a model's cache is so small, one idea after another; for every page that shows one model's cache."""

from __future__ import annotations

from itertools import pairwise

import streamlit as st

from attention.memory.load import Load
from attention.memory.waterfall import waterfall
from attention.spec import ModelSpec
from attention.units import binary_bytes, held, ratio
from ui.components.bars import bars
from viz import bars as figures


def why_so_small(spec: ModelSpec, load: Load, *, key: str, at_least: int = 2, label: str = "") -> None:
    """Draw the waterfall with its finding above it.

    Args:
        key: stable key of the element.
        at_least: a waterfall with fewer steps is not drawn. Plain MHA is the first step, each idea is one more.
        label: names the model in the heading.
    """
    steps = waterfall(spec, load)
    if len(steps) <= at_least - 1:
        return
    first, last = steps[0].state_bytes, steps[-1].state_bytes
    if last and first > last:
        most = max(pairwise(steps), key=lambda pair: pair[0].state_bytes / max(1, pair[1].state_bytes))[1]
        named = f"{label}: " if label else ""
        st.subheader(
            f"{named}{ratio(first / last)} smaller than plain MHA, most of it by {_by(most.name)}", anchor=False
        )
    else:
        st.subheader("Why it is as large as it is", anchor=False)
    at = held(load.context)
    text = "; ".join(f"{step.name}: {binary_bytes(step.state_bytes)}" for step in steps)
    bars(figures.waterfall(steps), key=key, filename="why-so-small", joined=True, alt=f"At {at}. {text}")
    st.caption(
        f"Exact bytes at {at}. What to see, from the top: each bar is what one idea takes away, and beside it stands "
        "what is left. The first and the last are whole caches."
    )


def _by(name: str) -> str:
    return {"layers shared": "sharing layers"}.get(name, name.replace("heads shared:", "sharing heads,"))
