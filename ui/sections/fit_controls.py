"""Controls of the page What fits: the row above the figure, and the assumptions below it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attention import sharing
from attention.catalog import published
from attention.formats import WEIGHT_BITS
from attention.serving.fit import MAX_COUNT
from attention.serving.speculation import stated_layers, with_draft
from attention.spec import ModelSpec
from ui import controls, frame, lesson, model_weights
from ui.controls import ChosenModel

_GIB = 2**30


def choose() -> tuple[ChosenModel, ModelSpec, dict[str, Any], int, int]:
    """Draw the row of controls.

    Returns:
        (model, its layers with parameters, arguments of ``Setup`` from this row, context, batch).

    Raises:
        ValueError: the model's parameters are not known; see :func:`ui.model_weights.known`.
    """
    columns = frame.bar(2.3, 2.3, 0.9, 1.2, 2.2, 1, 0.9)
    with columns[6], frame.more():
        fmt = controls.cache_format()
        controls.exact_context()
        controls.draft_tokens("f_draft")
    with columns[0]:
        model = controls.model_picker()
    labels = {row.id: row.label for row in published.accelerators()}
    accelerator = columns[1].selectbox(
        "Accelerator", list(labels), key="f_acc", format_func=labels.__getitem__, help="Data-sheet figures, see below."
    )
    columns[2].number_input("Count", 1, MAX_COUNT, key="f_count", help="Ranks of tensor parallelism.")
    columns[3].selectbox("Weights", list(WEIGHT_BITS), key="f_weights", help="How the weights are stored.")
    with columns[4]:
        context = controls.context(model)
    with columns[5]:
        batch = controls.batch()
    spec = model_weights.known(model)
    chosen = {
        "accelerator": published.accelerator(str(accelerator)), "count": int(st.session_state["f_count"]),
        "weight_dtype": st.session_state["f_weights"], "kv_dtype": fmt,
    }  # fmt: skip
    return model, spec, chosen, context, batch


def drafted(model: ChosenModel, spec: ModelSpec) -> ModelSpec:
    """The model with the layers of its draft, if a draft is chosen."""
    if not st.session_state["f_draft"] or not sharing.has_attention(spec):
        return spec
    return with_draft(spec, stated_layers(model.config) or 1)


def assumptions() -> None:
    """Draw how to read the map, and the assumptions about memory as controls."""
    st.caption(lesson.text("fit_map"))
    columns = st.columns(4, gap="medium", vertical_alignment="bottom")
    columns[0].slider(
        "Memory to use, %", 50, 100, key="f_util", help="vLLM calls it gpu_memory_utilization; its default is 90 %."
    )
    columns[1].number_input(
        "Reserve, GiB", 0.0, 64.0, key="f_reserve", step=0.5, format="%.1f",
        help="Kept free on each accelerator for activations, graphs and fragmentation.",
    )  # fmt: skip
    columns[2].number_input("Page, tokens", 1, 2**16, key="f_page", help="Engines give out whole pages.")
    columns[3].selectbox(
        "Windows", ("own", "shared"), key="f_pool", format_func=lambda pool: f"{pool} pool",
        help="Whether windowed layers keep short pages of their own, or share a pool with layers of full length.",
    )  # fmt: skip


def current_assumptions() -> dict[str, Any]:
    """The values of those controls as arguments of ``Setup``.

    They are read before the controls are drawn, because these stand below the figure.
    """
    values = st.session_state
    return {
        "utilisation": values["f_util"] / 100,
        "reserve_bytes": round(values["f_reserve"] * _GIB),
        "page_tokens": values["f_page"],
        "window_pool": values["f_pool"],
    }
