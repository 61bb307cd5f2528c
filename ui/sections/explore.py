"""The parts of the first page: the cache beside its counterfactuals, and the live timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import streamlit as st
from streamlit.errors import StreamlitAPIException

from attention import sharing
from attention.kernels.case import Case
from attention.memory import counterfactuals
from attention.memory.counterfactuals import Variant
from attention.memory.load import Load
from attention.spec import Kind, Layer
from attention.timing import sharings
from attention.units import binary_bytes, counted, duration, held, ratio
from ui import frame, jobs, measured, params
from ui.components.bars import bars
from ui.controls import ChosenModel
from ui.jobs import Seen
from viz import bars as figures

JOB = "explore"
KEPT = params.token("e_kept")
EXAMPLES = (
    (
        "Llama 2 7B vs 3 8B",
        "pages/compare.py",
        {"cmp": ["meta-llama/Llama-2-7b-hf", "meta-llama/Meta-Llama-3-8B"], "context": "8192"},
    ),
    (
        "Why Gemma 3 is small at 128k",
        "pages/kv_cache.py",
        {"model": "google/gemma-3-27b-pt", "context": "131072"},
    ),
    (
        "MLA against GQA",
        "pages/compare.py",
        {"cmp": ["deepseek-ai/DeepSeek-V3", "meta-llama/Llama-3.1-405B"], "context": "131072"},
    ),
)
"""(what to see, page, its address)."""


def examples() -> None:
    """Links to views that tell a story."""
    with st.container(key="examples", horizontal=True, gap="small", vertical_alignment="center"):
        st.html('<span class="hs-try">Try</span>', width="content")
        for label, page, query in EXAMPLES:
            if (frame.ROOT / page).exists():
                # a page run by itself, as a test does, knows no other pages
                with suppress(StreamlitAPIException):
                    st.page_link(page, label=label, query_params=list(_pairs(query)))


def _pairs(query: Mapping[str, str | Sequence[str]]) -> list[tuple[str, str]]:
    return [(key, v) for key, value in query.items() for v in ([value] if isinstance(value, str) else value)]


def cache(model: ChosenModel, load: Load, rows: tuple[Variant, ...]) -> None:
    """The cache as one large number, and as bars beside MHA and MQA."""
    own = next(row for row in rows if row.is_model)
    mha = next((row for row in rows if row.label == "MHA"), own)
    many = f", {counted(load.batch, 'sequence')}" if load.batch > 1 else ""
    if not sharing.has_attention(model.spec):
        beside = "one fixed size, whatever the context"
    elif own is mha:
        beside = "every query head has a K/V head of its own"
    else:
        beside = f"{ratio(mha.state_bytes / own.state_bytes)} smaller than MHA"
    st.metric(
        f"{counterfactuals.kept_name(model.spec)} of {model.label} at {held(load.context)}{many}, {load.kv_dtype}",
        binary_bytes(own.state_bytes),
        beside,
        delta_color="off",
        delta_arrow="off",
    )
    text = ", ".join(f"{row.label} {binary_bytes(row.state_bytes)}" for row in rows)
    bars(figures.ends(rows), key="ways", filename="cache-mha-gqa-mqa", alt=f"Cache: {text}")


def timing(layer: Layer | None, load: Load) -> None:
    """Run, Stop, and the decode times of MHA, the model's sharing and MQA as they arrive."""
    if layer is None or not layer.n_heads:
        st.caption("There are no attention heads to time in this model.")
        return
    cases = sharings.timed_cases(layer, load.context)
    payload = {"cases": [_wire(case) for case in cases], "seconds_per_case": 0.3}
    left, right = st.columns([1, 5], vertical_alignment="center", gap="medium")
    with left:
        jobs.button(JOB, "bench", payload, label="Run", help="Times real PyTorch attention on this server.")
    with right:
        st.markdown(_what(layer, cases[0]))
    own = None if layer.kind is Kind.LATENT else layer.n_kv_heads
    jobs.panel(JOB, _draw, cases, own, address=KEPT.key)


def _wire(case: Case) -> dict[str, object]:
    return {name: getattr(case, name) for name in case.__dataclass_fields__}


def _what(layer: Layer, case: Case) -> str:
    names = [sharing.name(layer.n_heads, n) for n in sharings.timed_sharings(layer)]
    apart = " MLA itself is not timed." if layer.kind is Kind.LATENT else ""
    return (
        f"**Time {', '.join(names[:-1])} and {names[-1]}:** one decode step of one layer, "
        f"{counted(case.context, 'token')}, one sequence, {case.dtype}, in PyTorch here.{apart}"
    )


def _draw(job: Seen | None, cases: tuple[Case, ...], own: int | None) -> None:
    if job is None:
        return
    rows = sharings.times(cases, jobs.timings(job), own)
    known = [row.result for row in rows if row.result is not None]
    if job.results and not known:
        st.caption("The last run timed other sizes; press Run for these.")
    measured.notice(known)
    text = ", ".join(f"{row.label} {duration(row.result.median_s or 0)}" for row in rows if row.result)
    alt = f"Decode time: {text or 'nothing timed yet'}"
    bars(figures.times(rows), key="times", filename="decode-time-mha-gqa-mqa", alt=alt)
    if known:
        st.caption(
            "Median of many rounds in which all take turns, half their interquartile range to either side; in brackets "
            "the 95 % interval of the ratios. The fastest of four implementations that read each K/V head once, every "
            "one checked against float64. Timings has them all."
        )
