"""What one decode step of a whole model reads and costs, with and without shared heads."""

from ui import (
    frame,
    jobs,
    lesson,
    params,
)
from ui.sections import decode_step as sections

PARAMS = (*sections.PARAMS, params.token("d_kept"))

with frame.page(
    "decode_step",
    title="Decode step",
    lead="See what one token costs a whole model: weights, cache, and the time it takes on this server.",
    params=PARAMS,
):
    asked, apart, run_column = sections.choose()
    cases = [vars(case) for step in asked for case in step.cases]
    payload = {"cases": cases, "device": "auto"} if cases else None
    with run_column:
        jobs.button("decode_step", "model_step", payload, help="Time one decoder layer of each kind on this server.")
    jobs.panel("decode_step", sections.draw, asked, apart, address="d_kept")
    with frame.details():
        lesson.show("decode_step", finding=sections.finding(asked))
