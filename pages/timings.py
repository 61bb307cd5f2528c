"""Attention timed on this server, beside the limits of its memory and arithmetic."""

import streamlit as st

from attention import foreign_text
from attention.timing import views
from ui import (
    frame,
    jobs,
    kept_runs,
)
from ui.sections import kinds
from ui.sections import timings as sections

PARAMS = (*sections.PARAMS, *kinds.PARAMS, kept_runs.PARAM)

with frame.page(
    "timings",
    title="Timings",
    lead="Time one attention step on this server, and see how far it is from the machine's limit.",
    params=PARAMS,
):
    kept_runs.keep_finished("timings")
    if sections.subject() == sections.KINDS:
        topic, payload, run_column = kinds.controls()
        with run_column:
            jobs.button(kinds.JOB, "kinds", payload, help="Time these kinds of cache on this server.")
        shown = kinds.view(topic)
        jobs.panel(kinds.JOB, kinds.draw, shown, topic, address=kinds.KEPT.key)
        with frame.details(), frame.guard():
            kinds.explain(shown, topic)
    else:
        payload, run_column = sections.controls()
        with run_column:
            jobs.button("timings", "bench", payload, help="Time every chosen combination on this server.")
        found, problems = kept_runs.shown("timings")
        running = (job := jobs.current("timings")) is not None and not job.done
        shapes = views.common_shapes(found)
        shape, view = sections.view_controls(found, shapes, running=running)
        for problem in problems:
            st.warning(foreign_text.markdown(problem))
        jobs.panel("timings", sections.draw, found, shape, view)
        with frame.details():
            sections.kept(found)
            with frame.guard():
                sections.explanations(found[0].results, shape)
