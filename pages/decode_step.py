"""What one decode step of a whole model reads and costs, with its heads shared or not."""

import streamlit as st

from attention import step_view
from attention.units import duration, significant
from attention.worker import Job
from ui import frame, jobs, lesson, step_parts
from viz import decode_step

PARAMS = step_parts.PARAMS


def draw(job: Job | None) -> None:
    """The figure and its table, with the timings taken so far."""
    rows = step_view.rows(asked, step_parts.results(job))
    with frame.numbers():
        for row in rows[-3:]:
            if row.result:
                st.metric(f"{row.label}, per token", duration(row.result.token_s))
            else:
                st.metric(f"{row.label}, cache's share", f"{significant(100 * row.cache_share, 2)} %")
    frame.chart(
        decode_step.plot_steps(rows),
        key="d_figure",
        filename="headshare-decode-step",
        alt="Bytes of weights and cache that one decode step reads, for MHA, the model's own sharing and MQA.",
    )
    st.caption(lesson.text("decode_step_figure"))
    with st.container(key="d_table"):
        step_parts.table(rows)


with frame.page(
    "decode_step",
    title="Decode step",
    lead="See what one token costs a whole model: weights, cache, and the time it takes on this server.",
    params=PARAMS,
):
    asked, run_column = step_parts.choose()
    payload = {"cases": [vars(case) for case in asked], "device": "auto"} if asked else None
    with run_column:
        jobs.button("decode_step", "model_step", payload, help="Time one decoder layer of these sizes on this server.")
    jobs.panel("decode_step", draw)
    with frame.details():
        lesson.show("decode_step")
