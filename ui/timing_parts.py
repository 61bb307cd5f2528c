"""Parts of the timings page: its controls, and the table below the figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import streamlit as st

from attention import kernel_names
from attention.cases import DTYPES, Case, Result
from attention.memory import divisors
from attention.runs import Run
from attention.timing_views import Shape, describe, sharing_name
from attention.units import tokens
from ui import frame, kept_runs, params, state

CONTEXTS = [2**power for power in range(8, 18)]
ONE, OVER = "One context", "Over context"
PHASES = ["decode", "prefill"]
NAMES = list(dict.fromkeys([*kernel_names.DECODE, *kernel_names.PREFILL]))

PARAMS = (
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


def controls() -> tuple[dict[str, Any] | None, Any]:
    """The row of controls; returns the job's payload (None while nothing can run) and the column for its button."""
    heads, kv, ctx, dtype, more, run = frame.bar(1, 2.8, 2.1, 1.2, 0.8, 1)
    with heads:
        n_heads = int(st.number_input("Query heads", 1, 128, key="t_heads", help="Query heads of one layer."))
    options = divisors(n_heads)[::-1]
    fitting = [n for n in st.session_state["t_kv"] if n in options]
    if fitting != st.session_state["t_kv"]:
        st.session_state["t_kv"] = fitting or [n_heads]
    with kv:
        shared = st.multiselect(
            "K/V heads",
            options,
            key="t_kv",
            format_func=lambda n: sharing_name(n_heads, n),
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


def table(results: Iterable[Result]) -> None:
    """Every timing, sortable."""
    rows = [
        {
            "implementation": kernel_names.label(r.implementation),
            "K/V heads": r.n_kv_heads,
            "context": r.context,
            "median_ms": None if r.median_s is None else r.median_s * 1e3,
            "iqr_ms": None if r.iqr_s is None else r.iqr_s * 1e3,
            "floor_ms": None if r.floor_s is None else r.floor_s * 1e3,
            "times_floor": r.times_floor,
            "bound": r.bound,
            "gb_per_s": None if r.bytes_per_s is None else r.bytes_per_s / 1e9,
            "error": r.error,
            "note": r.note,
        }
        for r in results
    ]
    number = st.column_config.NumberColumn
    st.dataframe(
        rows,
        hide_index=True,
        width="stretch",
        column_config={
            "implementation": "Implementation",
            "context": number("Context", format="localized"),
            "median_ms": number("Median (ms)", format="%.3f"),
            "iqr_ms": number("Spread (ms)", format="%.3f", help="Interquartile range of the repeats."),
            "floor_ms": number("Floor (ms)", format="%.3f", help="Least time this machine could take."),
            "times_floor": number("× floor", format="%.2f"),
            "bound": "Bound by",
            "gb_per_s": number("GB/s", format="%.1f", help="Least traffic divided by the median."),
            "error": number("Error", format="%.1e", help="Largest deviation from float64, relative to its RMS."),
            "note": "Note",
        },
    )


def view_controls(shapes: Sequence[Shape], *, single: bool, running: bool) -> Shape | None:
    """Which of the timed shapes to look at, and how. Index 0 is the last one timed, the longest context.

    While a run goes on, the figure follows its newest timing: there is nothing to choose.
    """
    if not shapes:
        return None
    st.session_state["t_shape"] = min(st.session_state["t_shape"], len(shapes) - 1)
    with frame.below_bar():
        left, right = st.columns([2, 1], vertical_alignment="center")
    order = shapes[::-1]
    if running:
        left.caption("While the run goes on, the figure follows its newest timing.")
        return order[st.session_state["t_shape"]]
    chosen = left.selectbox(
        "Show",
        range(len(order)),
        key="t_shape",
        format_func=lambda i: describe(order[i]),
        label_visibility="collapsed",
    )
    if single:
        with right:
            st.segmented_control("View", [ONE, OVER], key="t_view", required=True, label_visibility="collapsed")
    return order[chosen]


def kept(found: Sequence[Run]) -> None:
    """The timings of the runs in view as tables and files, and ways to bring in more runs."""
    for run in found:
        if len(found) > 1:
            st.markdown(f"**{kept_runs.provenance(run)}**")
        table(run.results)
        kept_runs.downloads(run)
    # above the expander, which closes when the tables over it change: a refusal must be seen
    if problem := kept_runs.upload_problem():
        st.warning(state.quoted(problem, 300))
    with st.expander("Compare with other machines"):
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
        right.text_input(
            "Link or token of a kept run", key="t_add", max_chars=300, on_change=kept_runs.add, args=("t_add",)
        )
        if len(found) > 1:
            st.button("Show only the first", on_click=kept_runs.only, args=(found[0].id,), key="t_only")


def explanations(results: Iterable[Result]) -> None:
    """What is to be learnt from each implementation that was timed."""
    timed = dict.fromkeys((r.phase, r.implementation) for r in results)
    known = [kernel_names.table(phase)[name] for phase, name in timed if name in kernel_names.table(phase)]
    st.markdown("\n".join(f"- **{name.label}**: {name.why}" for name in known))
