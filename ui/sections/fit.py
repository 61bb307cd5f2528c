"""Parts of the page What fits: the verdict, its numbers, the other accelerators."""

from __future__ import annotations

import streamlit as st

from attention import foreign_text, sharing
from attention.floor import COMPUTE
from attention.memory.load import MAX_CONTEXT, Load
from attention.serving import plan as serving
from attention.serving.fit import MAX_COUNT, Setup
from attention.serving.plan import Plan
from attention.serving.prefill import Prefill, prefill_floor, vocabulary_of
from attention.serving.price import price_per_million
from attention.serving.remedies import Remedy, remedies
from attention.serving.roofline import compute_peak
from attention.serving.speculation import speculation, stated_layers
from attention.spec import ModelSpec
from attention.units import binary_bytes, counted, decimal, duration, held, significant, tokens
from ui import downloads, frame, state
from ui.components.bars import bars
from ui.controls import ChosenModel
from viz import bars as figures

MAX_PRICE = 10_000.0
"""The highest accepted price of an accelerator for one hour."""


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


def speeds(plan: Plan, setup: Setup, prompt: Prefill | None) -> None:
    """Draw the bounds on each user's speed, on the time of a prompt and on the price of tokens."""
    st.subheader("How fast, and what it costs, at best", anchor=False)
    typed, shown = st.columns([1, 2.4], gap="large", vertical_alignment="center")
    with typed:
        left, right = st.columns(2, vertical_alignment="bottom")
        left.number_input(
            "Prompt, tokens", 0, MAX_CONTEXT, key="f_prompt", help="What prefill is bounded for; 0: the whole context."
        )
        right.number_input(
            "Price per hour", 0.0, MAX_PRICE, key="f_price", step=0.1, format="%.2f",
            help="Of one accelerator, in your currency; 0: none stated. Gives the least that a million tokens cost.",
        )  # fmt: skip
    with shown, st.container(key="numbers-speed", horizontal=True, gap="medium"):
        if not plan.fits:
            st.caption("This load does not fit, so there is no speed to bound.")
            return
        step = plan.floor
        together = f"{significant(step.tokens_per_s)} tokens/s together"
        _metric("Each user gets at most", f"{significant(step.sequence_tokens_per_s)} tokens/s", together)
        if prompt is not None:
            binds = "arithmetic" if prompt.floor.binds == COMPUTE else "reading memory"
            _metric(f"Prefill of {held(prompt.prompt)} takes at least", duration(prompt.floor.time_s), f"{binds} binds")
        if price := st.session_state["f_price"]:
            beside = "decode alone"
            if prompt is not None:
                of_prompt = price_per_million(price, setup.count, prompt.tokens_per_s)
                beside = f"a million of the prompt: {significant(of_prompt)}"
            least = price_per_million(price, setup.count, step.tokens_per_s)
            _metric("A million tokens cost at least", significant(least), beside)


def prefill(model: ChosenModel, spec: ModelSpec, setup: Setup, context: int) -> Prefill | None:
    """The bound of one prompt of the typed length, otherwise of the context's; None for a model with an encoder."""
    try:
        return prefill_floor(
            spec, setup.accelerator, st.session_state["f_prompt"] or context,
            count=setup.count, weight_dtype=setup.weight_dtype, kv_dtype=setup.kv_dtype,
            vocabulary=vocabulary_of(model.config),
        )  # fmt: skip
    except ValueError:
        return None


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
    st.subheader(f"Memory of one {setup.accelerator.label}", anchor=False)
    bars(
        figures.memory(bar), key="fit_memory", filename="accelerator-memory", joined=True,
        alt=f"Of {binary_bytes(bar.memory)}: weights {binary_bytes(bar.weights)}, cache {binary_bytes(bar.states)}, "
        f"reserve {binary_bytes(bar.reserve)}, free {binary_bytes(bar.free)}, over {binary_bytes(bar.over)}.",
    )  # fmt: skip


def alt(plan: Plan, setup: Setup, context: int, batch: int) -> str:
    """The map in words, for people who cannot see it."""
    return (
        f"What fits on {setup.count} × {setup.accelerator.label} over context and batch. At batch {batch:,} up to "
        f"{_context(plan.largest_context)} tokens; at {counted(context, 'token')} up to "
        f"{counted(plan.largest_batch, 'sequence')}."
    )


def step(plan: Plan, spec: ModelSpec, setup: Setup, prompt: Prefill | None) -> None:
    """Draw the bound of a decode step and of a prompt in words: bytes, operations, and the time of each."""
    bound, floor, batch = plan.floor, plan.floor.floor, plan.floor.batch
    st.subheader("One decode step, as a bound", anchor=False)
    if not plan.fits:
        st.caption("This load does not fit, so there is no step to bound: add accelerators, or make the load smaller.")
        return
    binds = "reading memory" if floor.binds == "memory" else "arithmetic"
    compute = (
        "" if floor.compute_s is None else f", its {decimal(floor.flops, 'FLOP')} take {duration(floor.compute_s)}"
    )
    written = f", and writes {binary_bytes(bound.written_bytes)} of state back" if bound.written_bytes else ""
    lines = [
        f"Each accelerator reads {binary_bytes(bound.weight_bytes)} of weights and {binary_bytes(bound.cache_bytes)} "
        f"of {'cache' if sharing.has_attention(spec) else 'state'}{written}: "
        f"{duration(floor.memory_s)} at {decimal(setup.accelerator.bytes_per_s, 'B/s')}{compute}. "
        f"What binds is **{binds}**.",
        f"Each sequence gets at most **{significant(bound.sequence_tokens_per_s)} tokens/s**, all together "
        f"**{significant(bound.tokens_per_s)} tokens/s**.",
    ]
    if plan.crossover is not None:
        lines.append(f"From **{held(plan.crossover)}** on, a step reads more cache than weights.")
    if plan.compute_binds_at is not None:
        lines.append(
            f"From a batch of {plan.compute_binds_at:,} on, multiplying the weights takes longer than reading them."
        )
    if bound.expected is not None and bound.expected_weight_bytes is not None:
        lines.append(
            f"Expected rather than bound, if every expert is as likely as any other: {batch:,} sequences read "
            f"**{binary_bytes(bound.expected_weight_bytes)}** of weights, a step takes about "
            f"**{duration(bound.expected.time_s)}** ({significant(batch / bound.expected.time_s)} tokens/s)."
        )
    if prompt is not None:
        lines.append(_of_prompt(prompt, setup))
    lines += [f"Note: {foreign_text.markdown(note)}." for note in bound.notes]
    lines.append("A bound, not a promise: communication, launches and sampling only add to it.")
    st.markdown("  \n".join(lines))


def _of_prompt(prompt: Prefill, setup: Setup) -> str:
    floor = prompt.floor
    each = " on each" if setup.count > 1 else ""
    took = "no peak is published" if floor.compute_s is None else duration(floor.compute_s)
    return (
        f"Prefill of {counted(prompt.prompt, 'token')}: {decimal(prompt.weight_flops, 'FLOP')} with the weights and "
        f"{decimal(prompt.attention_flops, 'FLOP')} of attention, together {took}{each}; reading weights once and "
        f"writing the cache takes {duration(floor.memory_s)}. One prompt's first token comes after at least "
        f"**{duration(floor.time_s)}**."
    )


def others(spec: ModelSpec, setup: Setup, context: int, batch: int) -> None:
    """Draw the table of the same load on every accelerator of the catalogue."""
    st.subheader("The same load on other accelerators", anchor=False)
    rows = serving.every_accelerator(spec, setup, context, batch)
    frame.table(
        {
            "accelerator": [row["accelerator"] for row in rows],
            "memory": [binary_bytes(row["memory_bytes"]) for row in rows],
            "bandwidth": [decimal(row["bytes_per_s"], "B/s") for row in rows],
            "fewest": [row["count"] for row in rows],
            "step, ms at least": [None if row["step_s"] is None else row["step_s"] * 1e3 for row in rows],
            "tokens/s at most": [row["tokens_per_s"] for row in rows],
            "source": [row["source"] for row in rows],
        },
        key="fit_others",
        column_config={
            "fewest": st.column_config.NumberColumn(help=f"Powers of two up to {MAX_COUNT}; empty: no such count."),
            "step, ms at least": st.column_config.NumberColumn(format="%.2f"),
            "tokens/s at most": st.column_config.NumberColumn(format="%.1f"),
        },
    )
    downloads.buttons(
        rows, "what_fits", model=spec.name, context=context, batch=batch, kv_dtype=setup.kv_dtype,
        weight_dtype=setup.weight_dtype, utilisation=setup.utilisation, reserve_bytes=setup.reserve_bytes,
    )  # fmt: skip
