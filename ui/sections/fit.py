"""Parts of the page What fits: its controls, its numbers, the other accelerators."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attention import sharing
from attention.catalog import published
from attention.formats import WEIGHT_BITS
from attention.memory.load import Load
from attention.serving import plan as serving
from attention.serving.fit import MAX_COUNT, Setup
from attention.serving.plan import Plan
from attention.serving.roofline import compute_peak
from attention.serving.speculation import speculation, stated_layers, with_draft
from attention.serving.ways_out import Way, ways_out
from attention.spec import ModelSpec
from attention.units import binary_bytes, counted, duration, held, significant, tokens
from ui import controls, frame, lesson, model_weights, state
from ui.components.bars import bars
from ui.controls import ChosenModel
from viz import bars as figures

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


def drafting(model: ChosenModel, spec: ModelSpec, plan: Plan, setup: Setup, context: int, batch: int) -> None:
    """Draw a paragraph about the draft: its cache, and the step that checks its tokens."""
    n = int(st.session_state["f_draft"])
    if not n or not plan.fits:
        return
    if not sharing.has_attention(spec):
        st.caption("The model has no attention layer, so how wide a draft's would be is not known.")
        return
    peak = compute_peak(setup.accelerator.flops_per_s, setup.weight_dtype)
    stated, load = stated_layers(model.config), Load(context, batch, setup.kv_dtype)
    found = speculation(spec, load, plan.floor, n, stated, setup.accelerator.bytes_per_s, peak)
    layers = counted(found.layers, "layer")
    source = "as its configuration states" if found.stated else "its configuration states none: one is taken"
    binds = "reading memory" if found.step.binds == "memory" else "arithmetic"
    was, step = significant(plan.floor.floor.intensity), found.step
    st.markdown(
        f"**With {counted(n, 'draft token')}** a step checks {found.q_len} tokens of each sequence. The draft has "
        f"{layers} as wide as the model's ({source}) and a cache of **{binary_bytes(found.cache_bytes)}**, counted "
        f"above; its weights are not. The step moves the same bytes, so it has **{significant(step.intensity)} "
        f"operations per byte** in place of {was}, takes at least {duration(step.time_s)}, and {binds} binds; if every "
        f"draft is accepted, {significant(found.most)} tokens/s at most."
    )


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


_SHOWN = {"kv_dtype": "kv", "weight_dtype": "f_weights", "context": "context", "batch": "batch", "count": "f_count"}
"""What a single change of the load or setup changes -> its address key."""


def verdict(plan: Plan, spec: ModelSpec, setup: Setup, context: int, batch: int) -> None:
    """Draw a sentence that says whether the load fits; if not, a button for every single change that is enough."""
    bar = serving.memory_bar(plan.budget, plan.state_bytes)
    each = f"each {setup.accelerator.label}" if setup.count > 1 else f"the {setup.accelerator.label}"
    if plan.fits:
        st.markdown(
            f"**Fits:** {binary_bytes(bar.free)} stay free on {each}; at {held(context)} there is room for "
            f"{counted(plan.largest_batch, 'user')}."
        )
        return
    said = f"**Does not fit:** {binary_bytes(bar.over)} too much on {each}."
    ways = ways_out(spec, setup, context, batch, plan)
    if not ways:
        st.markdown(f"{said} No single change of those on this page is enough.")
        return
    st.markdown(f"{said} It fits with any one of these:")
    with st.container(key="fit_ways", horizontal=True, gap="small"):
        for way in ways:
            st.button(
                _way(way, setup),
                key=f"fit_way_{way.what}",
                on_click=state.put,
                kwargs={_SHOWN[way.what]: way.value},
            )


def _way(way: Way, setup: Setup) -> str:
    users = counted(way.largest_batch, "user")
    match way.what:
        case "kv_dtype":
            return f"{way.value} cache: {users}"
        case "weight_dtype":
            return f"{way.value} weights: {users}"
        case "context":
            return f"{way.value:,} tokens"
        case "batch":
            return users
        case _:
            return f"{way.value} × {setup.accelerator.label}: {users}"


def metrics(plan: Plan, spec: ModelSpec, setup: Setup, context: int, batch: int) -> None:
    """Draw whether the load fits, the three solved numbers, and the bound of a step if the load fits."""
    count = f"{setup.count} × {setup.accelerator.label}" if setup.count > 1 else setup.accelerator.label
    with frame.numbers():
        _metric("This load", *_verdict(plan))
        _metric(f"Longest context at batch {batch:,}", _context(plan.largest_context), _limit(plan, spec))
        _metric(f"Largest batch at {held(context)}", f"{plan.largest_batch:,}", f"on {count}")
        fewest = f"none to {MAX_COUNT}" if plan.smallest_count is None else f"{plan.smallest_count:,}"
        _metric("Fewest accelerators", fewest, f"for {batch:,} × {held(context)}")
        step = plan.floor
        if not plan.fits:
            _metric("One decode step", "–", "no step without room for it")
            return
        _metric(
            "One decode step takes at least",
            duration(step.floor.time_s),
            "a bound, not a promise"
            if step.expected is None
            else f"a bound; about {duration(step.expected.time_s)} expected of its experts",
        )


def _verdict(plan: Plan) -> tuple[str, str]:
    bar = serving.memory_bar(plan.budget, plan.state_bytes)
    if plan.fits:
        return "fits", f"{binary_bytes(bar.free)} free on each"
    return "does not fit", f"{binary_bytes(bar.over)} too much on each"


def _metric(label: str, value: str, beside: str) -> None:
    st.metric(label, value, beside, delta_color="off", delta_arrow="off", width="content")


def _context(longest: int | None) -> str:
    return "no limit" if longest is None else "none" if longest == 0 else f"{longest:,}"


def _limit(plan: Plan, spec: ModelSpec) -> str:
    if spec.max_context is None:
        return "tokens that fit"
    beyond = plan.largest_context is None or plan.largest_context >= spec.max_context
    return f"the model goes to {tokens(spec.max_context)}" if beyond else f"of the model's {tokens(spec.max_context)}"


def memory(plan: Plan, setup: Setup) -> None:
    """Draw the memory of one accelerator as bars."""
    bar = serving.memory_bar(plan.budget, plan.state_bytes)
    of = "" if setup.count == 1 else " of each"
    st.subheader(
        f"The cache takes {_part(bar.states, bar.memory)} of the memory{of}, the weights "
        f"{_part(bar.weights, bar.memory)}",
        anchor=False,
    )
    bars(
        figures.memory(bar), key="fit_memory", filename="accelerator-memory", joined=True,
        alt=f"Of {binary_bytes(bar.memory)}: weights {binary_bytes(bar.weights)}, cache {binary_bytes(bar.states)}, "
        f"reserve {binary_bytes(bar.reserve)}, free {binary_bytes(bar.free)}, over {binary_bytes(bar.over)}.",
    )  # fmt: skip
    st.caption(
        f"What to see: the {binary_bytes(bar.memory)} of one {setup.accelerator.label}, each part beginning where the "
        "one above it ends."
    )


def _part(n_bytes: int, whole: int) -> str:
    return f"{significant(100 * n_bytes / whole)} %"


def alt(plan: Plan, setup: Setup, context: int, batch: int) -> str:
    """The map in words, for people who cannot see it."""
    return (
        f"What fits on {setup.count} × {setup.accelerator.label} over context and batch. At batch {batch:,} up to "
        f"{_context(plan.largest_context)} tokens; at {counted(context, 'token')} up to "
        f"{counted(plan.largest_batch, 'sequence')}."
    )
