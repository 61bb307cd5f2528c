"""What is said where measurements are shown: why nothing is concluded from some, and what a quiet machine gave."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from attention import foreign_text
from attention.kernels.case import Result
from attention.timing import views
from attention.timing.views import Shape


def notice(results: Sequence[Result], shape: Shape | None = None) -> None:
    """Above the numbers of a run: why it is not steady, if so, and beside it a recorded run of a quiet machine.

    Args:
        results: those that are shown.
        shape: of the recorded run; by default that of the last result.
    """
    if not (why := views.trouble(results)):
        return
    last = results[-1]
    beside = views.recorded_beside(shape or views.shape_of(last), last.case.device)
    unsteady(why, beside)


def unsteady(why: str, beside: str = "") -> None:
    """The notice itself, in words."""
    text = f"**Not steady, so nothing is compared:** {foreign_text.markdown(why)}. Run again when the machine is quiet."
    with st.container(key="unsteady"):
        st.warning(text + (f"  \n{foreign_text.markdown(beside)}" if beside else ""))
