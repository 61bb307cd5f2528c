"""Attention timed on this server, beside what its memory and multipliers allow."""

import streamlit as st

from attention import timing_views
from attention.units import duration, ratio
from attention.worker import Job
from ui import frame, jobs, kept_runs, lesson, timing_parts
from viz import timings

PARAMS = (*timing_parts.PARAMS, kept_runs.PARAM)


def draw(job: Job | None) -> None:
    """The numbers and the figure: of what is being timed, else of the runs in view."""
    live = job is not None and not job.done and bool(job.results)
    views = [kept_runs.of_job(job)] if job is not None and live else found
    # while timings arrive, the figure follows the newest
    shape = next(reversed(timing_views.common_shapes(views)), None) if live else chosen
    if shape is None:
        st.info("These runs have no shape in common, so there is nothing to compare.")
        return
    with frame.numbers():
        for name, median_s, faster, floors in timing_views.speedups(views[0].results, shape):
            st.metric(
                f"{name} · {ratio(floors or 0)} floor",
                duration(median_s),
                delta=f"{ratio(faster)} faster" if faster else None,
                delta_arrow="off",
                help="Median of the fastest implementation; the floor is the least time this machine could take.",
            )
    if len(views) > 1:
        figure = timings.plot_dots(timing_views.host_bars(views, shape), rows="Machine")
    elif st.session_state["t_view"] == timing_parts.OVER:
        figure = timings.plot_curves(timing_views.curves(views[0].results, shape))
    else:
        figure = timings.plot_dots(timing_views.bars(views[0].results, shape))
    frame.chart(
        figure,
        key="t_figure",
        filename="headshare-timings",
        alt=f"Median time of each implementation and way to share heads, {timing_views.describe(shape)}.",
    )
    st.caption(timing_views.describe(shape) + ". " + lesson.text("timings_figure"))
    if not live:
        st.caption("  \n".join(kept_runs.provenance(run) for run in views))


with frame.page(
    "timings",
    title="Timings",
    lead="Time one attention step on this server, and see how far it is from the machine's limit.",
    params=PARAMS,
):
    kept_runs.keep_finished("timings")
    payload, run_column = timing_parts.controls()
    with run_column:
        jobs.button("timings", "bench", payload, help="Time every chosen combination on this server.")
    found, problems = kept_runs.shown("timings")
    running = (job := jobs.current("timings")) is not None and not job.done
    shapes = timing_views.common_shapes(found)
    chosen = timing_parts.view_controls(shapes, single=len(found) == 1, running=running)
    for problem in problems:
        st.warning(problem)
    jobs.panel("timings", draw)
    with frame.details():
        timing_parts.kept(found)
        with frame.guard():
            timing_parts.explanations(found[0].results)
            lesson.show("timings_floor")
