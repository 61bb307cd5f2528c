"""Notices above measurements: why an unsteady run is not compared, and what a quiet machine measured."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attention import foreign_text
from attention.kernels.case import Result
from attention.timing import views
from attention.timing.views import Shape


def notice(results: Sequence[Result], shape: Shape | None = None) -> None:
    """If a run is not steady, say why, and give a recorded run of a quiet machine beside it.

    Args:
        results: the results that the page shows.
        shape: the shape to look up among the recorded runs; by default the last result's.
    """
    if not (why := views.trouble(results)):
        return
    last = results[-1]
    beside = views.recorded_beside(shape or views.shape_of(last), last.case.device)
    unsteady(why, beside)


def unsteady(why: str, beside: str = "") -> None:
    """Draw the notice: `why` is the reason, `beside` a sentence about the recorded run."""
    text = f"**Not steady, so nothing is compared:** {foreign_text.markdown(why)}. Run again when the machine is quiet."
    with st.container(key="unsteady"):
        st.warning(text + (f"  \n{foreign_text.markdown(beside)}" if beside else ""))
