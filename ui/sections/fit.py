"""Parts of the page What fits: the verdict, its numbers, the other accelerators."""

from __future__ import annotations

import streamlit as st

from attention import sharing
from attention.memory.load import Load
from attention.serving import plan as serving
from attention.serving.fit import MAX_COUNT, Setup
from attention.serving.plan import Plan
from attention.serving.remedies import Remedy, remedies
from attention.serving.roofline import compute_peak
from attention.serving.speculation import speculation, stated_layers
from attention.spec import ModelSpec
from attention.units import binary_bytes, counted, duration, held, significant, tokens
from ui import frame, state
from ui.components.bars import bars
from ui.controls import ChosenModel
from viz import bars as figures


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
    found = remedies(spec, setup, context, batch, plan)
    if not found:
        st.markdown(f"{said} No single change of those on this page is enough.")
        return
    st.markdown(f"{said} It fits with any one of these:")
    with st.container(key="fit_remedies", horizontal=True, gap="small"):
        for remedy in found:
            st.button(
                _remedy(remedy, setup),
                key=f"fit_remedy_{remedy.what}",
                on_click=state.put,
                kwargs={_SHOWN[remedy.what]: remedy.value},
            )


def _remedy(remedy: Remedy, setup: Setup) -> str:
    users = counted(remedy.largest_batch, "user")
    match remedy.what:
        case "kv_dtype":
            return f"{remedy.value} cache: {users}"
        case "weight_dtype":
            return f"{remedy.value} weights: {users}"
        case "context":
            return f"{remedy.value:,} tokens"
        case "batch":
            return users
        case _:
            return f"{remedy.value} × {setup.accelerator.label}: {users}"


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
