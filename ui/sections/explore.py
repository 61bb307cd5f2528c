"""Parts of the first page: the cache beside its counterfactuals, and the live timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache as cache_of

import streamlit as st
from streamlit.errors import StreamlitAPIException

from attention import sharing
from attention.kernels.case import Case
from attention.memory import counterfactuals
from attention.memory.counterfactuals import Variant
from attention.memory.load import Load
from attention.spec import Kind, Layer, ModelSpec
from attention.timing import runs, sharings, views
from attention.timing.runs import Run
from attention.units import binary_bytes, counted, duration, held, ratio
from ui import controls, frame, jobs, kept_runs, lesson, measured, params
from ui.components.bars import bars
from ui.components.big_number import big_number
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
"""(label, page, address keys of the view)."""


def examples() -> None:
    """Draw links to views that show something."""
    with st.container(key="examples", horizontal=True, gap="small", vertical_alignment="center"):
        st.html('<span class="hs-try">Try</span>', width="content")
        for label, page, query in EXAMPLES:
            if (frame.ROOT / page).exists():
                # when a test runs this page alone, Streamlit knows no other pages
                with suppress(StreamlitAPIException):
                    st.page_link(page, label=label, query_params=list(_pairs(query)))


def _pairs(query: Mapping[str, str | Sequence[str]]) -> list[tuple[str, str]]:
    return [(key, v) for key, value in query.items() for v in ([value] if isinstance(value, str) else value)]


def slider(layer: Layer | None, key: str) -> int | None:
    """Draw the slider under the map. Return the number of K/V heads to show, None for the model as published."""
    if layer is None or not layer.n_heads:
        return None
    latent = layer.kind is Kind.LATENT
    chosen = controls.divisor_slider(key, layer.n_heads, layer.n_kv_heads, latent=latent)
    return chosen if chosen and (latent or chosen != layer.n_kv_heads) else None


def shown(rows: tuple[Variant, ...], chosen: int | None) -> Variant:
    """The row with the slider's number of K/V heads; without one, the model's own row."""
    own = next(row for row in rows if row.is_model)
    return next((row for row in rows if row.n_kv_heads == chosen and row is not own), own)


def intro(rows: tuple[Variant, ...]) -> tuple[int, ...]:
    """The numbers of K/V heads that the map shows in turn on arrival, from MHA to MQA; empty for MLA."""
    own = next(row for row in rows if row.is_model)
    return () if own.label == "MLA" or len(rows) < 2 else tuple(row.n_kv_heads for row in rows)


def cache(model: ChosenModel, load: Load, rows: tuple[Variant, ...], shown: Variant) -> None:
    """Draw the cache as one large number, and as a bar beside those of MHA and MQA."""
    many = f", {counted(load.batch, 'sequence')}" if load.batch > 1 else ""
    as_other = "" if shown.is_model else f" as {shown.label}"
    big_number(
        f"{counterfactuals.kept_name(model.spec)} of {model.label}{as_other} at {held(load.context)}{many}, "
        f"{load.kv_dtype}",
        binary_bytes(shown.state_bytes),
        _beside(model.spec, rows, shown),
        key="cache",
        ways={row.n_kv_heads: (binary_bytes(row.state_bytes), _beside(model.spec, rows, row)) for row in rows},
    )
    text = ", ".join(f"{row.label} {binary_bytes(row.state_bytes)}" for row in rows)
    bars(figures.ends(rows, shown), key="ways", filename="cache-mha-gqa-mqa", alt=f"Cache: {text}")


def _beside(spec: ModelSpec, rows: tuple[Variant, ...], shown: Variant) -> str:
    if not sharing.has_attention(spec):
        return "one fixed size, whatever the context"
    mha = next((row for row in rows if row.label == "MHA"), shown)
    if shown is mha:
        return "every query head has a K/V head of its own"
    return f"{ratio(mha.state_bytes / shown.state_bytes)} smaller than MHA"


def words(layer: Layer | None, rows: tuple[Variant, ...], shown: Variant) -> None:
    """Draw three sentences: what a K/V head is, what is kept, why it is shared."""
    if layer is None or not layer.n_heads:
        return
    mha = next((row for row in rows if row.label == "MHA"), shown)
    if shown.label == "MLA":
        said = f"here one short vector per token stands for the keys and values of {counted(layer.n_heads, 'head')}."
    elif shown is mha:
        said = f"here {counted(layer.n_heads, 'query head')} share nothing; move the slider to see what sharing saves."
    else:
        said = (
            f"here {counted(layer.n_heads, 'query head')} share {counted(shown.n_kv_heads, 'K/V head')}, and the cache "
            f"is {ratio(mha.state_bytes / shown.state_bytes)} smaller than with one each."
        )
    lesson.show("explore", sharing=said)


def timing(layer: Layer | None, load: Load) -> None:
    """Draw Run or Stop, and the decode times of MHA, the model's sharing and MQA as they arrive."""
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


@cache_of
def _recorded(n_heads: int, head_dim: int, context: int) -> tuple[Run, tuple[Case, ...]] | None:
    """The newest recorded run with timings of these heads, otherwise of any; with its cases nearest to `context`."""
    found = None
    for run in runs.recorded():
        timed = [r.case for r in run.results if r.case.phase == "decode" and r.case.dtype == "float32"]
        same = [case for case in timed if (case.n_heads, case.head_dim) == (n_heads, head_dim)]
        if (same or found is None) and (of := same or timed):
            nearest = min({case.context for case in of}, key=lambda held: (abs(held - context), held))
            found = run, tuple(case for case in of if case.context == nearest)
        if same:
            break
    return found


def _wire(case: Case) -> dict[str, object]:
    return {name: getattr(case, name) for name in case.__dataclass_fields__}


def _what(layer: Layer, case: Case) -> str:
    names = [sharing.name(layer.n_heads, n) for n in sharings.timed_sharings(layer)]
    apart = (
        " These keep the keys and values that MLA's latents stand for; MLA itself is timed on Timings, under Kinds of "
        "cache."
        if layer.kind is Kind.LATENT
        else ""
    )
    return (
        f"**Time {', '.join(names[:-1])} and {names[-1]}:** one decode step of one layer, "
        f"{counted(case.context, 'token')}, one sequence, {case.dtype}, in PyTorch here.{apart}"
    )


def _draw(job: Seen | None, cases: tuple[Case, ...], own: int | None) -> None:
    if job is None:
        _draw_recorded(cases[0])
        return
    rows = sharings.times(cases, jobs.timings(job), own)
    known = [row.result for row in rows if row.result is not None]
    if job.results and not known:
        st.caption("The last run timed other sizes; press Run for these.")
    measured.notice(known)
    text = ", ".join(f"{row.label} {duration(row.result.median_s or 0)}" for row in rows if row.result)
    alt = f"Decode time: {text or 'nothing timed yet'}"
    _faster(rows, "Measured here")
    bars(figures.times(rows), key="times", filename="decode-time-mha-gqa-mqa", alt=alt)
    if known:
        st.caption(
            "Median of many rounds in which all take turns, half their interquartile range to either side; in brackets "
            "the 95 % interval of the ratios. The fastest of four implementations that read each K/V head once, every "
            "one checked against float64. Timings has them all."
        )


def _faster(rows: Sequence[sharings.SharingTime], how: str) -> None:
    """Draw a heading that compares the first and the last bar, if they may be compared."""
    first, last = rows[0].result, rows[-1].result
    found = views.faster(first, last) if first and last and first is not last else None
    if found is not None:
        st.subheader(f"{how}: {rows[-1].label} decodes {ratio(found.mid)} as fast as {rows[0].label}", anchor=False)


def _draw_recorded(asked: Case) -> None:
    """Draw a recorded run, with the name of its machine, until a visitor measures here."""
    found = _recorded(asked.n_heads, asked.head_dim, asked.context)
    if found is None:
        return
    run, cases = found
    one = cases[0]
    rows = sharings.times(sorted(cases, key=lambda case: -case.n_kv_heads), run.results, None)
    text = ", ".join(f"{row.label} {duration(row.result.median_s or 0)}" for row in rows if row.result)
    _faster(rows, "Recorded")
    bars(figures.times(rows), key="times_recorded", filename="decode-time-recorded", alt=f"Decode time: {text}")
    st.caption(
        f"**Recorded, not live:** {counted(one.n_heads, 'query head')} of {one.head_dim}, "
        f"{counted(one.context, 'token')}, {one.dtype}. {kept_runs.provenance(run)}. Press Run for this machine."
    )
