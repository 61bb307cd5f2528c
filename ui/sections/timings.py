"""Parts of the page Timings for shared heads: its controls, the figure, and the table below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import streamlit as st

from attention import foreign_text, sharing
from attention.kernels import names as kernel_names
from attention.kernels.case import DTYPES, Case, Result
from attention.timing import runs, views
from attention.timing.runs import Run
from attention.timing.steadiness import STILL_TIMED
from attention.timing.views import Shape, describe
from attention.units import duration, ratio, tokens
from attention.worker.client import Job
from ui import frame, jobs, kept_runs, lesson, measured, params, state
from viz import timings

CONTEXTS = [2**power for power in range(8, 18)]
ONE, OVER = "One context", "Over context"
HEADS, KINDS = "Shared heads", "Kinds of cache"
PHASES = ["decode", "prefill"]
NAMES = list(dict.fromkeys([*kernel_names.DECODE, *kernel_names.PREFILL]))

PARAMS = (
    params.choice("t_what", [HEADS, KINDS], HEADS),
    params.integer("t_heads", 32, 1, 128),
    params.choices("t_kv", list(range(1, 129)), [32, 8, 1]),
    params.choices("t_ctx", CONTEXTS, [1024, 4096]),
    params.integer("t_dim", 128, 8, 512),
    params.integer("t_batch", 1, 1, 64),
    params.choice("t_dtype", list(DTYPES), "float32"),
    params.choice("t_device", ["auto", "cpu", "cuda"], "auto"),
    params.choice("t_phase", PHASES, "decode"),
    params.choices("t_impl", NAMES, kernel_names.USUAL["decode"]),
    params.choice("t_view", [ONE, OVER], ONE),
    params.integer("t_shape", 0, 0, 999),
)


def subject() -> str:
    """Draw the choice of what is timed: HEADS or KINDS. Each has its own controls."""
    with st.container(key="bar-subject"):
        chosen = st.segmented_control(
            "What is timed", [HEADS, KINDS], key="t_what", required=True, label_visibility="collapsed"
        )
    state.not_drawn(*(("t_kv", "t_shape", "t_view") if chosen == KINDS else ("tk_place",)))
    return str(chosen)


def controls() -> tuple[dict[str, Any] | None, Any]:
    """Draw the row of controls; (the job's payload, None if nothing can run; the column for its button).

    Raises:
        ValueError: a size is out of range.
    """
    heads, kv, ctx, dtype, more, run = frame.bar(1, 2.8, 2.1, 1.2, 0.8, 1)
    with heads:
        n_heads = int(st.number_input("Query heads", 1, 128, key="t_heads", help="Query heads of one layer."))
    options = sharing.divisors(n_heads)[::-1]
    fitting = [n for n in st.session_state["t_kv"] if n in options]
    if fitting != st.session_state["t_kv"]:
        st.session_state["t_kv"] = fitting or [n_heads]
    sharings = {n: sharing.name(n_heads, n) for n in options}
    state.name_anew("t_kv", list(sharings.values()))
    with kv:
        shared = st.multiselect(
            "K/V heads",
            options,
            key="t_kv",
            format_func=sharings.__getitem__,
            help="Each is timed: as many as query heads is MHA, one is MQA.",
        )
    with ctx:
        contexts = st.multiselect(
            "Context", CONTEXTS, key="t_ctx", format_func=tokens, help="Tokens held in the cache; each is timed."
        )
    with dtype:
        kind = st.selectbox("Data type", list(DTYPES), key="t_dtype", help="Of q, K and V.")
    with more, frame.more():
        names, rest = _rare()
    cases = [
        {"implementation": name, "n_heads": n_heads, "n_kv_heads": n, "context": c, "dtype": kind, **rest}
        for c in sorted(contexts)
        for n in sorted(shared, reverse=True)
        for name in names
    ]
    for case in cases:
        Case.from_json(case)
    payload = {"cases": cases, "device": rest["device"], "seconds_per_case": 0.3} if cases else None
    return payload, run


def _rare() -> tuple[list[str], dict[str, Any]]:
    phase = st.segmented_control("Phase", PHASES, key="t_phase", required=True) or PHASES[0]
    own = list(kernel_names.table(phase))
    chosen = [name for name in st.session_state["t_impl"] if name in own] or list(kernel_names.USUAL[phase])
    if chosen != st.session_state["t_impl"]:
        st.session_state["t_impl"] = chosen
    names = st.multiselect(
        "Implementations",
        own,
        key="t_impl",
        format_func=kernel_names.label,
        help="Ways to compute the same result; what each teaches stands below the figure.",
    )
    return names, {
        "phase": phase,
        "head_dim": int(st.number_input("Head size", 8, 512, key="t_dim", step=8, help="Elements of one head.")),
        "batch": int(st.number_input("Batch", 1, 64, key="t_batch", help="Sequences decoded together.")),
        "device": st.selectbox(
            "Device", ["auto", "cpu", "cuda"], key="t_device", help="auto: the GPU where this server has one."
        ),
    }


def draw(job: Job | None, found: Sequence[Run], chosen: Shape | None, view: str) -> None:
    """Draw the numbers and the figure: of the running job, otherwise of the runs in view.

    Args:
        found: the runs in view. chosen: the shape of them to show. view: ONE or OVER, for a single run.
    """
    live = jobs.timings(job) if job is not None and not job.done else ()
    # while timings arrive, the figure shows the newest shape
    shape = views.shape_of(live[-1]) if live else chosen
    if shape is None:
        st.info("These runs have no shape in common, so there is nothing to compare.")
        return
    results = live or found[0].results
    shown = [r for r in results if views.shape_of(r) == shape]
    measured.notice(shown, shape)
    with frame.numbers():
        for speed in views.speedups(results, shape):
            known = "not steady" if speed.unsteady else f"{ratio(speed.times_floor or 0)} floor"
            st.metric(
                f"{speed.name} · {'so far' if speed.unsteady == STILL_TIMED else known}",
                duration(speed.median_s),
                delta=views.faster_text(speed.faster) or None,
                delta_color="off",
                delta_arrow="off",
                help="Median of the fastest implementation; the floor is the least time this machine could take. "
                "In brackets: the 95 % interval of the ratios, one of each round.",
            )
    if len(found) > 1 and not live:
        figure = timings.plot_dots(views.host_bars(found, shape), rows="Machine")
    elif view == OVER and not live:
        figure = timings.plot_curves(views.curves(results, shape))
    else:
        figure = timings.plot_dots(views.bars(results, shape))
    frame.chart(
        figure,
        key="t_figure",
        filename="headshare-timings",
        alt=f"Median time of each implementation and way to share heads, {views.describe(shape)}.",
    )
    if found_out := views.finding(results, shape):
        st.subheader(found_out, anchor=False)
    st.caption(views.describe(shape) + ". " + lesson.text("timings_figure"))


def table(results: Iterable[Result], key: str) -> None:
    """Draw every timing, as a table that can be sorted."""
    rows = list(results)

    def column(value: Callable[[Result], Any]) -> list[Any]:
        return [value(r) for r in rows]

    def scaled(name: str, factor: float) -> list[Any]:
        return [None if getattr(r, name) is None else getattr(r, name) * factor for r in rows]

    number = st.column_config.NumberColumn
    frame.table(
        {
            "Implementation": column(lambda r: kernel_names.label(r.case.implementation)),
            "K/V heads": column(lambda r: r.case.n_kv_heads),
            "Context": column(lambda r: r.case.context),
            "Batch": column(lambda r: r.case.batch),
            "Data type": column(lambda r: r.case.dtype),
            "Median (ms)": scaled("median_s", 1e3),
            "Steady": column(lambda r: "" if r.median_s is None else "no" if r.unsteady else "yes"),
            "Spread (ms)": scaled("iqr_s", 1e3),
            "Floor (ms)": scaled("floor_s", 1e3),
            "× floor": scaled("times_floor", 1),
            "Bound by": column(lambda r: r.bound),
            "GB/s": scaled("bytes_per_s", 1e-9),
            "Error": column(lambda r: r.error),
            "Query heads": column(lambda r: f"{r.case.n_heads} of {r.case.head_dim}"),
            "Phase": column(lambda r: r.case.phase),
            "Note": column(lambda r: "; ".join(part for part in (r.unsteady, r.note) if part)),
        },
        key=key,
        width="stretch",
        column_config={
            "Context": number(format="localized"),
            "Median (ms)": number(format="%.3f"),
            "Spread (ms)": number(format="%.3f", help="Interquartile range of the repeats."),
            "Floor (ms)": number(format="%.3f", help="Least time this machine could take."),
            "× floor": number(format="%.2f"),
            "GB/s": number(format="%.1f", help="Least traffic divided by the median."),
            "Error": number(format="%.1e", help="Largest deviation from float64, relative to its RMS."),
        },
    )


def view_controls(found: Sequence[Run], shapes: Sequence[Shape], *, running: bool) -> tuple[Shape | None, str]:
    """Draw the choice of a shape and of the view; (shape, ONE or OVER). Shape 0 is the last one timed.

    While a run goes on, the figure shows its newest timing, so there is nothing to choose.
    """
    view = str(st.session_state["t_view"])
    with frame.below_bar():
        if running:
            st.caption("While the run goes on, the figure follows its newest timing.")
        else:
            st.caption("Shown: " + "  \n".join(kept_runs.provenance(run) for run in found))
    if not shapes:
        return None, view
    st.session_state["t_shape"] = min(st.session_state["t_shape"], len(shapes) - 1)
    order = shapes[::-1]
    if running:
        state.not_drawn("t_shape", "t_view")
        return order[st.session_state["t_shape"]], view
    with frame.below_bar():
        left, right = st.columns([2, 1], vertical_alignment="center")
    state.name_anew("t_shape", [describe(shape) for shape in order])
    chosen = left.selectbox(
        "Show",
        range(len(order)),
        key="t_shape",
        format_func=lambda i: describe(order[i]),
        label_visibility="collapsed",
    )
    if len(found) != 1:
        state.not_drawn("t_view")
    else:
        state.name_anew("t_view", [ONE, OVER])
        with right:
            st.segmented_control("View", [ONE, OVER], key="t_view", required=True, label_visibility="collapsed")
    return order[chosen], view


def kept(found: Sequence[Run]) -> None:
    """Draw the timings of the runs in view as tables with downloads, and the controls that add more runs."""
    for run in found:
        if len(found) > 1:
            st.markdown(f"**{kept_runs.provenance(run)}**")
        table(run.results, f"t_table_{run.id or 'now'}")
        kept_runs.downloads(run)
    # above the expander: this closes when the tables above it change, and the refusal must be seen
    if problem := kept_runs.upload_problem():
        st.warning(foreign_text.code(problem, 300))
    with st.expander("Compare with other machines"):
        st.caption("Recorded runs that ship:")
        with st.container(horizontal=True):
            for run in runs.recorded():
                st.button(
                    foreign_text.markdown(run.label), key=f"t_show_{run.id}", on_click=kept_runs.only, args=(run.id,)
                )
        st.caption(
            "Run `python -m attention bench --save` on another machine, write the run with "
            "`python -m attention runs show TOKEN > run.json`, and upload it here; or paste the link of a kept run."
        )
        left, right = st.columns(2)
        left.file_uploader(
            "Run as JSON",
            type="json",
            key="t_upload",
            accept_multiple_files=True,
            on_change=kept_runs.take_upload,
            args=("t_upload",),
            help="At most 1 MB. It is checked, kept, and marked as uploaded.",
        )
        right.text_input("Link or token of a kept run", key="t_add", on_change=kept_runs.add, args=("t_add",))
        if len(found) > 1:
            st.button("Show only the first", on_click=kept_runs.only, args=(found[0].id,), key="t_only")


def explanations(results: Sequence[Result], shape: Shape | None) -> None:
    """Draw a sentence about each timed implementation, what it teaches; then why the floor is where it is."""
    fastest = views.fastest(results, shape)
    ways = dict.fromkeys(kernel_names.label(r.case.implementation) for r in fastest.values() if not r.unsteady)
    if ways:
        st.subheader(f"Fastest here: {' or '.join(ways)}", anchor=False)
    timed = dict.fromkeys((r.case.phase, r.case.implementation) for r in results)
    known = [kernel_names.table(phase)[name] for phase, name in timed if name in kernel_names.table(phase)]
    st.markdown("\n".join(f"- **{name.label}**: {name.why}" for name in known))
    binds = views.what_binds(results, shape) if shape else ""
    lesson.show("timings_floor", finding=binds or "Why the floor is where it is")
