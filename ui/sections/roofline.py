"""Parts of the roofline page: the batch as a slider, formats, and the host's own measurement."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from attention import foreign_text
from attention.formats import WEIGHT_BITS
from attention.serving.roofline_points import BATCHES
from attention.timing.runs import Run
from attention.units import binary_bytes, decimal
from ui import controls, frame, jobs, kept_runs, params, state
from ui.jobs import Seen

KEPT = params.token("r_kept")
PARAMS = (KEPT, kept_runs.PARAM)
"""The machine's own measurement, and the run of Timings whose points are drawn."""


def batch_slider() -> int:
    """Batch as powers of two, and the exact number the address has."""
    chosen = int(st.session_state["batch"])
    options = sorted({*BATCHES, chosen})
    if state.moved() or st.session_state.get("r_batch_pick") != chosen:
        st.session_state["r_batch_pick"] = chosen

    def adopt() -> None:
        st.session_state["batch"] = st.session_state["r_batch_pick"]

    st.select_slider("Batch", options, key="r_batch_pick", on_change=adopt, help="Sequences decoded together.")
    return chosen


def formats() -> tuple[str, str, str]:
    """Formats of weights and cache, and the data type of the host's own points."""
    weights = st.selectbox("Weights", list(WEIGHT_BITS), key="r_weights", help="How the weights are stored.")
    fmt = controls.cache_format()
    dtype = st.selectbox(
        "Measured points", ["float32", "bfloat16"], key="r_dtype", help="Data type of the measured points and roof."
    )
    return str(weights), fmt, str(dtype)


def host_run() -> Run:
    """The timings in view on Timings, or a run that ships; with this server's calibration if it was measured."""
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
    """Measure this server's own roof, and what was found; `shown` is what the figure above was drawn from."""
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
        # it was known already, and the run ended while the page was drawn
        st.rerun()
    with frame.guard():
        jobs.panel("r_calibrate", draw, address=KEPT.key)
