"""The numbers that the *Why* page's text shows."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from attention.catalog import Accelerator
from attention.decode_story import Ratios, Story
from attention.memory import sequence_bytes, with_n_kv_heads
from attention.roofline import compute_peak, ridge
from attention.spec import ModelSpec
from attention.units import binary_bytes, decimal, significant
from ui import frame
from ui.controls import Load


def with_parameters(spec: ModelSpec) -> ModelSpec:
    """`spec`, its parameter count asked from the visitor where neither catalogue nor configuration states it."""
    if spec.n_parameters is not None:
        return spec
    with frame.below_bar():
        billions = st.number_input(
            "Parameters (billions)",
            0.001,
            10_000.0,
            key="why_parameters",
            format="%.3f",
            help="These sizes do not say how many weights there are; the weights' traffic needs it.",
        )
    return replace(spec, n_parameters=int(billions * 1e9))


def values(
    label: str, spec: ModelSpec, story: Story, accelerator: Accelerator, load: Load, weight_dtype: str
) -> dict[str, str]:
    """For ``why_bottleneck.md``."""
    last = story.frames[-1]
    peak = compute_peak(accelerator.flops_per_s, weight_dtype)
    return {
        "model": label,
        "accelerator": accelerator.label,
        "context": f"{load.context:,}",
        "batch": f"{load.batch:,}",
        "weights": binary_bytes(last.weight_bytes),
        "cache": binary_bytes(last.cache_bytes),
        "flops": decimal(last.flops, "FLOP"),
        "intensity": significant(last.intensity),
        "ridge": "an unpublished number" if peak is None else significant(ridge(accelerator.bytes_per_s, peak)),
        "n_heads": f"{spec.n_heads:,}",
        "mha_cache": binary_bytes(
            load.batch * sequence_bytes(with_n_kv_heads(spec, None), load.context, load.kv),
        ),
    }


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
