"""Parts of the page Timings for kinds of cache: the controls, the figure, the table below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import streamlit as st

from attention import foreign_text
from attention.kept.job import KeptJob
from attention.kernels.case import DTYPES
from attention.kernels.kinds import names
from attention.kernels.kinds.case import KindResult, kind_bytes, kind_flops
from attention.timing import kind_views
from attention.timing.kind_views import TOPICS, Row, Shown
from attention.timing.steadiness import STILL_TIMED
from attention.timing.views import faster_text
from attention.units import duration, tokens
from ui import frame, jobs, lesson, measured, params, state
from ui.jobs import Seen
from viz import kinds

JOB = "kinds"
KEPT = params.token("tk_kept")
CONTEXTS = [256, 1024, 4096, 16384]
PARAMS = (
    params.choice("tk_topic", list(TOPICS), "mla"),
    params.choice("tk_ctx", CONTEXTS, 1024),
    params.choice("tk_dtype", list(DTYPES), "float32"),
    params.integer("tk_place", 0, 0, 999),
    KEPT,
)


def controls() -> tuple[str, dict[str, Any] | None, Any]:
    """Draw the row of controls; (the topic, the job's payload, the column for its button)."""
    topic_column, context_column, dtype_column, run = frame.bar(2.4, 1.4, 1.4, 1.2)
    topic = topic_column.selectbox(
        "Compare", list(TOPICS), key="tk_topic", format_func=lambda name: TOPICS[name].label, help="What is compared."
    )
    context = context_column.selectbox(
        "Context to time", CONTEXTS, key="tk_ctx", format_func=tokens, help="Tokens held in the cache, of a run here."
    )
    dtype = dtype_column.selectbox(
        "Data type to time", list(DTYPES), key="tk_dtype", help="Of queries and cache, of a run here."
    )
    cases = [asdict(case) for case in kind_views.shapes(topic, context, dtype)]
    return topic, {"topic": topic, "cases": cases, "seconds_per_case": 0.3}, run


def view(topic: str) -> Shown | None:
    """Draw the choice of what is shown: a run of this server or a recorded run, at a context, batch and data type.

    None while a run goes on, or if there is nothing to show.
    """
    live = (job := jobs.current(JOB)) is not None and not job.done
    with frame.below_bar():
        if live:
            st.caption("While the run goes on, the figure follows it.")
    if live:
        state.not_drawn("tk_place")
        return None
    seen, _ = jobs.in_view(JOB, KEPT.key)
    found = [*_of_job(seen, topic), *kind_views.recorded(topic)]
    st.session_state["tk_place"] = min(st.session_state["tk_place"], max(0, len(found) - 1))
    words = [f"{one.source}, {one.when}: {one.place.words}" for one in found]
    state.name_anew("tk_place", words)
    with frame.below_bar():
        chosen = st.selectbox(
            "Show", range(len(found)), key="tk_place", format_func=words.__getitem__, label_visibility="collapsed"
        )
    return found[chosen] if found else None


def _of_job(seen: Seen | None, topic: str) -> list[Shown]:
    if seen is None:
        return []
    results = kind_views.latest(jobs.parsed(seen, KindResult.from_json))
    source, when = "This server", "the run in view"
    if isinstance(seen, KeptJob):
        source, when = seen.label, f"run of {seen.created[:10]}"
    return kind_views.of_results(results, topic, source, when)


def draw(job: Seen | None, shown: Shown | None, topic: str) -> None:
    """Draw the numbers and the figure: of the running job, otherwise of what was chosen."""
    if job is not None and not job.done:
        topic = str(job.payload.get("topic", topic))
        shown = next(iter(_of_job(job, topic)), None)
        if shown is None:
            st.caption("The first times come in a moment: every kernel is held against float64 before it is timed.")
            return
    if shown is None:
        st.info("Nothing that ships compares these. Run times them here.")
        return
    if why := next((r.best.unsteady for r in shown.rows if r.best.unsteady not in ("", STILL_TIMED)), ""):
        measured.unsteady(why)
    with frame.numbers():
        for row in shown.rows[:4]:
            st.metric(
                f"{row.label} · {row.state}",
                duration(row.best.median_s or 0.0),
                delta=faster_text(row.faster) or None,
                delta_color="off",
                delta_arrow="off",
                help="Median of the fastest implementation; the floor is the least time this machine could take. "
                f"Compared with {shown.rows[0].label}, if both were timed in the same rounds.",
            )
    frame.chart(
        kinds.plot_kinds(shown.rows),
        key="tk_figure",
        filename="headshare-kinds",
        alt=f"Median time of one decode step over {TOPICS[topic].label}, for each implementation, beside its floor.",
    )
    if found_out := kind_views.finding(shown.rows, topic):
        st.subheader(found_out, anchor=False)
    source = foreign_text.markdown(f"{shown.source}, {shown.when}, {shown.place.words}")
    st.caption(f"{source}. {lesson.text('kinds_figure')}")


def explain(shown: Shown | None, topic: str) -> None:
    """Draw the lesson of the comparison, the table of timings, and a sentence about each implementation."""
    lesson.show(f"kinds_{topic}")
    if shown is None:
        return
    table(shown.rows)
    timed = dict.fromkeys(result.case.implementation for row in shown.rows for result in row.results)
    known = [names.IMPLEMENTATIONS[name] for name in timed if name in names.IMPLEMENTATIONS]
    st.markdown("\n".join(f"- **{name.label}**: {name.why}" for name in known))
    if refused := [f"{row.label}: {'; '.join(map(kinds.label, row.refused))}" for row in shown.rows if row.refused]:
        st.caption("Asked, and did not take the shape. " + ". ".join(refused) + ".")


def table(rows: Sequence[Row]) -> None:
    """Draw every timing of the shapes that are shown, as a table that can be sorted."""
    found = [(row, result) for row in rows for result in row.results]

    def column(value: Callable[[KindResult], Any]) -> list[Any]:
        return [value(result) for _, result in found]

    number = st.column_config.NumberColumn
    frame.table(
        {
            "Kind": [row.label for row, _ in found],
            "Implementation": column(lambda r: kinds.label(r.case.implementation)),
            "Median (µs)": column(lambda r: (r.median_s or 0.0) * 1e6),
            "Steady": column(lambda r: "no" if r.unsteady else "yes"),
            "Spread (µs)": column(lambda r: (r.iqr_s or 0.0) * 1e6),
            "Floor (µs)": column(lambda r: r.floor_s and r.floor_s * 1e6),
            "× floor": column(lambda r: r.times_floor),
            "Bound by": column(lambda r: r.bound),
            "GB/s": column(lambda r: (r.bytes_per_s or 0.0) * 1e-9),
            "Operations per byte": column(lambda r: kind_flops(r.case) / kind_bytes(r.case)),
            "Error": column(lambda r: r.error),
            "Heads": column(lambda r: kind_views.heads(r.case)),
            "Note": column(lambda r: "; ".join(part for part in (r.unsteady, r.note) if part)),
        },
        key="tk_table",
        width="stretch",
        column_config={
            "Median (µs)": number(format="%.1f"),
            "Spread (µs)": number(format="%.1f", help="Interquartile range of the repeats."),
            "Floor (µs)": number(format="%.1f", help="Least time this machine could take."),
            "× floor": number(format="%.2f"),
            "GB/s": number(format="%.1f", help="Least traffic divided by the median."),
            "Operations per byte": number(format="%.1f"),
            "Error": number(format="%.1e", help="Largest deviation from float64, relative to its RMS."),
        },
    )
