"""Parts of the page Roofline: the batch as a slider, formats, kinds of cache, and the host's own measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from attention import foreign_text, sharing
from attention.catalog import published
from attention.catalog.published import Accelerator
from attention.formats import WEIGHT_BITS
from attention.serving import kind_points, roofline_points
from attention.serving.roofline_points import BATCHES
from attention.spec import ModelSpec
from attention.timing import kind_runs
from attention.timing.runs import Run
from attention.units import binary_bytes, decimal, significant
from ui import controls, frame, jobs, kept_runs, lesson, params, state
from ui.jobs import Seen
from viz import intensity

STEP, KINDS = "Decode step", "Kinds of cache"
HELP = "Operations for each byte of the cache that one step reads; a machine's ridge says how many it can do meanwhile."
KEPT = params.token("r_kept")
PARAMS = (KEPT, kept_runs.PARAM)
"""Keys of this machine's own measurement, and of the run of Timings whose points are drawn."""


def view() -> str:
    """Draw the choice of points: a model's STEP, or KINDS of cache."""
    with frame.below_bar():
        return str(
            st.segmented_control("View", [STEP, KINDS], key="r_view", required=True, label_visibility="collapsed")
        )


def kinds(spec: ModelSpec, accelerator: Accelerator, context: int, batch: int) -> None:
    """Draw every kind of cache for the model's heads, beside the ridges and a recorded run: two figures and the lesson.

    The roof is that of 16-bit arithmetic, because attention uses it whatever format the weights have.
    """
    roof = roofline_points.accelerator_roof(accelerator, "bf16")
    computed = kind_points.computed(spec, context, batch, roof)
    if not computed:
        st.info("This model has no attention heads: there is no cache of keys and values to read.")
        return
    run = kind_runs.recorded()[0]
    known = kind_points.ridges(published.accelerators())
    roofs = tuple(found for found in (roof, kind_points.run_roof(run)) if found)
    points = {point.label: point for point in computed}
    with frame.numbers():
        for label in (spec_sharing(spec), "MLA, absorbed", "MLA, expanded"):
            if point := points.get(label):
                st.metric(f"{label} · {point.note}", f"{significant(point.intensity)} op/B", help=HELP)
    frame.chart(
        intensity.plot_kinds_roofline(
            kind_points.Intensities(roofs, computed, kind_points.measured(run), known),
        ),
        key="r_kinds",
        filename="headshare-roofline-kinds",
        alt="Operations per second over operations per byte for every kind of cache, computed and measured.",
    )
    host = foreign_text.code(run.label, 80)
    st.caption(lesson.text("roofline_kinds_figure", accelerator=accelerator.label, host=host))
    with frame.details():
        frame.chart(
            intensity.plot_intensities(computed, known, accelerator.label),
            key="r_intensity",
            filename="headshare-operations-per-byte",
            alt="Operations per byte of every kind of cache, beside the ridges of the accelerators.",
        )
        st.caption("Upright lines: operations per byte at which each accelerator's roof bends, bold the chosen one's.")
        absorbed = points["MLA, absorbed"]
        below, above = kind_points.beside_ridges(absorbed, known)
        beside = (
            f"It is past the ridge of {len(below)} of the {len(known)} accelerators here, before that of {len(above)}."
        )
        lesson.show(
            "roofline_kinds",
            accelerator=accelerator.label,
            ridge=significant(roof.ridge),
            absorbed=significant(absorbed.intensity),
            beside=beside,
            own=", ".join(
                f"{p.label} {significant(p.intensity)}" for p in computed if p.family in ("MHA", "GQA", "MQA")
            ),
            tokens=", ".join(
                f"{significant(p.intensity)} with {p.label.rpartition(', ')[2]}"
                for p in computed
                if p.family == "New tokens" and not p.label.startswith("MLA")
            ),
        )


def spec_sharing(spec: ModelSpec) -> str:
    """The name of the model's sharing; GQA-8 for a model with latents."""
    name = sharing.of(spec)
    return "GQA-8" if name == "MLA" else name


def finding(points: Sequence[roofline_points.Point], roof: roofline_points.Roof) -> str:
    """A heading that compares the model's own step with the ridge."""
    steps = roofline_points.steps(points)
    if not steps:
        return f"The roof bends at {significant(roof.ridge)} operations a byte"
    own = steps[len(steps) // 2]
    done, could = significant(own.intensity), significant(roof.ridge)
    return f"{own.sharing}: a step does {done} operations a byte where {could} could be done, so {own.binds} binds"


def batch_slider() -> int:
    """Draw the slider of the batch: powers of two, and the exact number in the address. Return the choice."""
    chosen = int(st.session_state["batch"])
    options = sorted({*BATCHES, chosen})
    if state.moved() or st.session_state.get("r_batch_pick") != chosen:
        st.session_state["r_batch_pick"] = chosen

    def adopt() -> None:
        st.session_state["batch"] = st.session_state["r_batch_pick"]

    st.select_slider("Batch", options, key="r_batch_pick", on_change=adopt, help="Sequences decoded together.")
    return chosen


def formats() -> tuple[str, str, str, int]:
    """Draw the controls under More; (format of weights, format of cache, data type of the host's points, tokens a step
    checks)."""
    weights = st.selectbox("Weights", list(WEIGHT_BITS), key="r_weights", help="How the weights are stored.")
    fmt = controls.cache_format()
    dtype = st.selectbox(
        "Measured points", ["float32", "bfloat16"], key="r_dtype", help="Data type of the measured points and roof."
    )
    return str(weights), fmt, str(dtype), 1 + controls.draft_tokens("r_draft")


def drafting(q_len: int) -> None:
    """Draw what the points mean if a draft proposes tokens."""
    if q_len > 1:
        st.caption(
            f"A step checks {q_len} tokens of each sequence, {q_len - 1} of them drafted: the same bytes, "
            f"{q_len} times the operations. The tokens per second are those if every draft is accepted. The draft's "
            "own cache and weights are not in it; What fits counts its cache."
        )


def host_run() -> Run:
    """The run in view on Timings, or a recorded run; with this server's calibration if it was measured."""
    kept_runs.keep_finished("timings")
    found, _ = kept_runs.shown("timings")
    run = found[0]
    measured, _ = jobs.in_view("r_calibrate", KEPT.key)
    if measured is not None and measured.summary:
        run = replace(
            run,
            results=() if run.source == "recorded" else run.results,
            host=measured.summary["host"],
            calibration=measured.summary["calibration"],
        )
    return run


def host_name(run: Run) -> str:
    return foreign_text.code(run.label, 80)


def calibrate(shown: Run) -> None:
    """Draw a button that measures this server's own roof, and the result; the figure above was drawn from `shown`."""
    left, _ = st.columns([1, 3])
    with left:
        jobs.button("r_calibrate", "calibrate", {"device": "auto"}, label="Measure this server")

    def draw(job: Seen | None) -> None:
        if job is None or not job.summary:
            return
        found = job.summary["calibration"]
        rates = ", ".join(f"{name} {decimal(rate, 'FLOP/s')}" for name, rate in found["flops_per_s"].items())
        caches = f", last-level cache {binary_bytes(found['cache_bytes'])}" if found.get("cache_bytes") else ""
        st.markdown(
            f"{foreign_text.code(found['name'], 80)}, {found['threads']} threads{caches}. Reads "
            f"{decimal(found['read_bytes_per_s'], 'B/s')}, copies {decimal(found['copy_bytes_per_s'], 'B/s')}; "
            f"matrix products: {rates}."
        )

    measured, _ = jobs.in_view("r_calibrate", KEPT.key)
    if measured is not None and measured.summary and shown.calibration != measured.summary["calibration"]:
        # the measurement ended while the page was drawn: draw the figure again with it
        st.rerun()
    with frame.guard():
        jobs.panel("r_calibrate", draw, address=KEPT.key)
