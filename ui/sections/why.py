"""The numbers that the *Why* page's text shows."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from attention.catalog.published import Accelerator
from attention.formats import cache_format, weight_bytes
from attention.memory.footprint import sequence_bytes
from attention.memory.load import Load
from attention.memory.terms import shared_bytes
from attention.serving.decode import Ratios, Trace
from attention.serving.fit import MAX_COUNT, Setup, budget, smallest_count
from attention.serving.roofline import cache_share, compute_peak, ridge
from attention.sharing import has_attention
from attention.spec import ModelSpec
from attention.units import binary_bytes, counted, decimal, significant
from ui import frame, state

USERS = (1, 8, 32)
"""Sequences decoded together that the page steps through."""


def users(spec: ModelSpec, load: Load, weight_dtype: str) -> None:
    """From one user to many, a button each, with the part of a step's traffic that is cache."""
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


def accelerators(spec: ModelSpec, accelerator: Accelerator, load: Load, weight_dtype: str) -> int:
    """How many accelerators hold weights and cache; said where one does not.

    Raises:
        ValueError: no number up to ``fit.MAX_COUNT`` does, so that no time can be promised.
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
    """For ``why_bottleneck.md``."""
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
        "ridge": "an unpublished number" if peak is None else significant(ridge(accelerator.bytes_per_s, peak)),
    } | (_as_mha(spec, load) if has_attention(spec) else {})


def _read(spec: ModelSpec, load: Load, read_bytes: int) -> str:
    if spec.as_read is spec:
        return f"{binary_bytes(read_bytes)} of cache"
    held = binary_bytes(load.batch * sequence_bytes(spec, load.context, load.kv_dtype))
    return f"{binary_bytes(read_bytes)} of its {held} of cache (an indexer picks the entries)"


def _as_mha(spec: ModelSpec, load: Load) -> dict[str, str]:
    whole = load.batch * shared_bytes(spec, None, load.context, cache_format(load.kv_dtype))
    return {"n_heads": f"{spec.n_heads:,}", "mha_cache": binary_bytes(whole)}


def ratio_values(spec: ModelSpec, load: Load) -> dict[str, str]:
    """For ``why_ratio.md``: the model's width and heads, the sliders' context and batch."""
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
