"""Parts of the page What fits below its map: bounds on speed, prompt and price, and other accelerators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from attention import foreign_text, sharing
from attention.floor import COMPUTE
from attention.memory.load import MAX_CONTEXT
from attention.serving import plan as serving
from attention.serving.fit import MAX_COUNT, Setup
from attention.serving.plan import Plan
from attention.serving.prefill import Prefill, prefill_floor, vocabulary_of
from attention.serving.price import price_per_million
from attention.spec import ModelSpec
from attention.units import binary_bytes, counted, decimal, duration, held, significant
from ui import downloads, frame
from ui.controls import ChosenModel

MAX_PRICE = 10_000.0
"""The highest accepted price of an accelerator for one hour."""


def speeds(plan: Plan, setup: Setup, prompt: Prefill | None) -> None:
    """Draw the bounds on each user's speed, on the time of a prompt and on the price of tokens."""
    st.subheader(_speeds_finding(plan, prompt), anchor=False)
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


def _speeds_finding(plan: Plan, prompt: Prefill | None) -> str:
    """The heading: the most tokens that a user gets, and the least time that a prompt waits."""
    if not plan.fits:
        return "Without room for the load there is no speed"
    each = f"Each user gets {significant(plan.floor.sequence_tokens_per_s)} tokens/s at most"
    if prompt is None:
        return each
    waited = f"waits {duration(prompt.floor.time_s)} at least for its first word"
    return f"{each}; a prompt of {held(prompt.prompt)} {waited}"


def _metric(label: str, value: str, beside: str) -> None:
    st.metric(label, value, beside, delta_color="off", delta_arrow="off", width="content")


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


def step(plan: Plan, spec: ModelSpec, setup: Setup, prompt: Prefill | None) -> None:
    """Draw the bound of a decode step and of a prompt in words: bytes, operations, and the time of each."""
    bound, floor, batch = plan.floor, plan.floor.floor, plan.floor.batch
    if not plan.fits:
        st.subheader("No decode step: the load does not fit", anchor=False)
        st.caption("This load does not fit, so there is no step to bound: add accelerators, or make the load smaller.")
        return
    binds = "arithmetic" if floor.binds == COMPUTE else "reading memory"
    st.subheader(f"One decode step takes {duration(floor.time_s)} at least: {binds} binds", anchor=False)
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
    rows = serving.every_accelerator(spec, setup, context, batch)
    st.subheader(_others_finding(rows), anchor=False)
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
    st.caption(
        "What to see: the fewest of each that hold the load, and the bound on a step of that many; more bandwidth "
        "makes the step shorter, more memory makes the number smaller."
    )
    downloads.buttons(
        rows, "what_fits", model=spec.name, context=context, batch=batch, kv_dtype=setup.kv_dtype,
        weight_dtype=setup.weight_dtype, utilisation=setup.utilisation, reserve_bytes=setup.reserve_bytes,
    )  # fmt: skip


def _others_finding(rows: Sequence[dict[str, Any]]) -> str:
    """The heading: how many kinds of accelerator hold the load alone, or with several."""
    alone = sum(row["count"] == 1 for row in rows)
    several = sum(row["count"] is not None and row["count"] > 1 for row in rows)
    parts = [
        f"{alone} of {len(rows)} accelerators hold this load alone"
        if alone != 1
        else f"1 of {len(rows)} accelerators holds this load alone"
    ]
    parts += [f"{several} when there are more of them"] * bool(several)
    if none := len(rows) - alone - several:
        parts.append(f"{none} not even with {MAX_COUNT}")
    return "; ".join(parts)
