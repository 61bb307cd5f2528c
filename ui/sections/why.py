"""Parts of the page Why share?: its buttons, findings, and the numbers of its texts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import streamlit as st
from streamlit.errors import StreamlitAPIException

from attention.catalog.published import Accelerator
from attention.floor import COMPUTE
from attention.formats import cache_format, weight_bytes
from attention.memory.counterfactuals import ends
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.memory.terms import shared_bytes
from attention.serving.decode import Frame, Ratios, Trace, prefill_trace
from attention.serving.fit import MAX_COUNT, Setup, budget, smallest_count
from attention.serving.prefill import vocabulary_of
from attention.serving.queries import meetings
from attention.serving.roofline import cache_share, compute_peak, ridge
from attention.sharing import has_attention
from attention.spec import ModelSpec
from attention.units import binary_bytes, counted, decimal, held, ratio, significant
from ui import controls, frame, lesson, state
from ui.components.one_row import one_row
from ui.controls import ChosenModel
from ui.params import VERSION
from ui.sections.spectrum import table_one_values as published_losses

PHASES = {"decode": "Decode", "prefill": "Prefill"}
USERS = (1, 8, 32)
"""Numbers of users, decoded together, that have a button."""


def users(spec: ModelSpec, load: Load, weight_dtype: str) -> None:
    """Draw a button for each of USERS, with the larger part of a step's traffic: cache or weights."""
    st.markdown("**Step from one user to 32.** Weights are read once for all of them, the cache for each.")
    with st.container(key="why_users", horizontal=True, gap="small"):
        for n in USERS:
            share = cache_share(spec, replace(load, batch=n), weight_dtype)
            most = "cache" if share > 0.5 else "weights"
            part = share if share > 0.5 else 1 - share
            st.button(
                f"{counted(n, 'user')}: {significant(100 * part, 2)} % {most}",
                key=f"why_users_{n}",
                type="primary" if n == load.batch else "secondary",
                on_click=state.put,
                kwargs={"batch": n},
            )


def phase() -> str:
    """Draw the switch between decode and prefill; a key of PHASES."""
    return str(
        controls.segmented(
            "What passes: one new token of each user, or a whole prompt",
            list(PHASES),
            "why_phase",
            format_func=PHASES.__getitem__,
            label_visibility="collapsed",
        )
    )


def shown(
    phase: str,
    trace: Trace,
    model: ChosenModel,
    spec: ModelSpec,
    accelerator: Accelerator,
    load: Load,
    weight_dtype: str,
    count: int,
) -> Trace:
    """The trace that the animation plays; draws its finding as a heading."""
    if phase == "decode":
        last = trace.frames[-1]
        st.subheader(_larger(last, load, bool(spec.n_heads)), anchor=False)
        return trace
    found = prefill_trace(spec, accelerator, load, weight_dtype, count, vocabulary_of(model.config))
    last = found.frames[-1]
    what = "the processor takes longer, the memory waits" if last.binds == COMPUTE else "still waits for memory"
    st.subheader(
        f"A prompt of {held(load.context)}: {significant(last.intensity)} operations a byte, {what}", anchor=False
    )
    return found


def _larger(last: Frame, load: Load, grows: bool) -> str:
    """The heading: whether a step reads more weights or more cache, and their ratio."""
    kept = "cache" if grows else "state"
    at = f"At {counted(load.batch, 'user')} of {held(load.context)}" if grows else f"At {counted(load.batch, 'user')}"
    times = last.cache_bytes / last.weight_bytes
    if times >= 1:
        return f"{at} the {kept} is {ratio(times)} the weights"
    return f"{at} the weights are {ratio(1 / times)} the {kept}" if times else f"{at} there is no {kept}"


def queries(spec: ModelSpec, load: Load, accelerator: Accelerator, weight_dtype: str) -> None:
    """Draw one query row times the keys beside many rows; nothing for a model without heads."""
    layer = spec.attention_layer
    if layer is None or not layer.n_heads or not layer.n_kv_heads:
        return
    decode, prefill = meetings(layer, load, accelerator, weight_dtype)
    st.subheader(
        f"Each key that is read meets {decode.rows:,} {_queries(decode.rows)} in decode, {prefill.rows:,} in prefill",
        anchor=False,
    )
    one_row(decode, prefill, key="one_row")
    peak = compute_peak(accelerator.flops_per_s, weight_dtype)
    lesson.show(
        "why_one_row",
        accelerator=accelerator.label,
        ridge="an unpublished number" if peak is None else significant(ridge(accelerator.bytes_per_s, peak)),
        batch=f"{load.batch:,}",
    )


def _queries(n: int) -> str:
    return "query" if n == 1 else "queries"


def overtakes(trace: Trace, kept: str) -> str:
    """The heading of the figure of traffic: the context at which the cache overtakes the weights."""
    longest = trace.frames[-1].context
    if trace.crossover is None:
        return f"A step always reads more weights than {kept}"
    if trace.crossover > longest:
        return f"The cache would overtake the weights at {counted(trace.crossover, 'token')}"
    return f"The cache overtakes the weights at {counted(trace.crossover, 'token')}"


def why_not_one(spec: ModelSpec, load: Load) -> None:
    """Draw the question why not one K/V head for all, with a short answer and a link to the page that answers it."""
    variants = {row.label: row.state_bytes for row in ends(spec, load)}
    if spec.n_kv_heads <= 1 or "MQA" not in variants:
        return
    papers = published_losses()
    lesson.show("why_not_one", n_heads=f"{spec.n_heads:,}", mqa_cache=binary_bytes(variants["MQA"]), **papers)
    with (
        st.container(key="why_not_link"),
        suppress(StreamlitAPIException),
    ):  # when a test runs this page alone, Streamlit knows no other pages
        st.page_link(
            "pages/spectrum.py",
            label="Why not one K/V head for all? Move it on MHA – GQA – MQA",
            query_params={"v": VERSION, "spec_kv": "1", "context": str(load.context)},
        )


def accelerators(spec: ModelSpec, accelerator: Accelerator, load: Load, weight_dtype: str) -> int:
    """The fewest accelerators that hold weights and cache; draws a warning if one is not enough.

    Raises:
        ValueError: no number up to ``fit.MAX_COUNT`` is enough, so no time can be computed.
    """
    setup = Setup(accelerator, 1, weight_dtype, load.kv_dtype)
    count = smallest_count(spec, setup, load.context, load.batch)
    if count == 1:
        return 1
    weights = binary_bytes(weight_bytes(spec.n_parameters or 0, weight_dtype))
    cache = binary_bytes(load.batch * sequence_bytes(spec, load.context, load.kv_dtype))
    room_for = binary_bytes(budget(spec, setup).usable_bytes)
    why = f"{weights} of weights ({weight_dtype}) and {cache} of cache do not fit on one {accelerator.label}"
    if count is None:
        raise ValueError(f"{why}, nor on any number up to {MAX_COUNT}: choose another accelerator, or a smaller load.")
    with frame.below_bar():
        st.warning(
            f"**Does not fit:** {why}, which has {room_for} to use. Shown are the fewest that hold them, "
            f"{counted(count, 'accelerator')} at work together."
        )
    return count


def values(
    label: str, spec: ModelSpec, trace: Trace, accelerator: Accelerator, load: Load, weight_dtype: str
) -> dict[str, str]:
    """The numbers of ``why_bottleneck.md``, by its placeholders."""
    last = trace.frames[-1]
    peak = compute_peak(accelerator.flops_per_s, weight_dtype)
    return {
        "model": label,
        "accelerator": accelerator.label,
        "context": f"{load.context:,}",
        "batch": f"{load.batch:,}",
        "weights": binary_bytes(last.weight_bytes),
        "stored": binary_bytes(weight_bytes(spec.n_parameters or 0, weight_dtype)),
        "cache": _read(spec, load, last.cache_bytes),
        "flops": decimal(last.flops, "FLOP"),
        "intensity": significant(last.intensity),
        "finding": _bottleneck(last.cache_share),
        "ridge": "an unpublished number" if peak is None else significant(ridge(accelerator.bytes_per_s, peak)),
    } | (_as_mha(spec, load) if has_attention(spec) else {})


def _bottleneck(share: float) -> str:
    part = f"{significant(100 * share, 2)} % of what a step moves"
    return (
        f"Why the cache is the bottleneck: {part}"
        if share > 0.5
        else f"Here the weights are most of it: the cache is {part}"
    )


def _read(spec: ModelSpec, load: Load, read_bytes: int) -> str:
    if spec.as_read is spec:
        return f"{binary_bytes(read_bytes)} of cache"
    held = binary_bytes(load.batch * sequence_bytes(spec, load.context, load.kv_dtype))
    return f"{binary_bytes(read_bytes)} of its {held} of cache (an indexer picks the entries)"


def _as_mha(spec: ModelSpec, load: Load) -> dict[str, str]:
    whole = load.batch * shared_bytes(spec, None, load.context, cache_format(load.kv_dtype))
    return {"n_heads": f"{spec.n_heads:,}", "mha_cache": binary_bytes(whole)}


def ratio_values(spec: ModelSpec, load: Load) -> dict[str, str]:
    """The numbers of ``why_ratio.md``: from the model's width and heads, and the sliders' context and batch."""
    assert spec.hidden_size is not None
    ratios = Ratios(load.context, spec.hidden_size, spec.n_heads, load.batch)
    return {
        "n": _latex(ratios.n),
        "d": _latex(ratios.d),
        "h": _latex(ratios.h),
        "b": _latex(ratios.b),
        "multi_head": significant(ratios.multi_head).replace(",", "{,}"),
        "multi_query": significant(ratios.multi_query).replace(",", "{,}"),
        "n_kv_heads": f"{spec.n_kv_heads:,}",
        "grouped": significant(ratios.grouped(spec.n_kv_heads)),
    }


def _latex(n: int) -> str:
    return f"{n:,}".replace(",", "{,}")
