"""Parts of the page KV cache: the numbers, the formula, the memory that an engine sets aside, the layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from attention import foreign_text, sharing
from attention.formats import WEIGHT_BITS, cache_format
from attention.memory import (
    allocation,
    breakdown,
    footprint,
)
from attention.memory.counterfactuals import Variant
from attention.memory.curves import ContextPicture
from attention.memory.footprint import CacheBytes
from attention.memory.load import MAX_CONTEXT, Load
from attention.memory.terms import state_counts
from attention.spec import Kind, ModelSpec
from attention.units import binary_bytes, counted, held, parameters, ratio, significant
from ui import controls, downloads, frame
from ui.components.bars import bars
from ui.controls import ChosenModel
from viz import bars as figures
from viz import formula as formulas
from viz.kv_cache import KIND_NAMES

_AXES = {"log": "context, log–log", "linear": "context, linear", "batch": "batch"}

MOST_TERMS, MOST_ROWS = 24, 256
"""The most lines of the formula and rows of the table that the page draws; no published model has so many."""


def controls_bar(axes: Sequence[str]) -> tuple[ChosenModel, Load, str]:
    """Draw the controls: model, context, batch, format, the figure's axis; exact numbers and the weights under More."""
    columns = frame.bar(3, 3, 1, 1.2, 1.8, 0.9)
    with columns[5], frame.more():
        controls.exact_context()
        st.selectbox(
            "Weights in", list(WEIGHT_BITS), key="k_weights", help="For the point where the cache outgrows the weights."
        )
    with columns[0]:
        model = controls.model_picker()
    with columns[1]:
        context = controls.context(model)
    with columns[2]:
        batch = controls.batch()
    with columns[3]:
        fmt = controls.cache_format()
    with columns[4]:
        over = st.selectbox(
            "Over", axes, key="k_axes", format_func=_AXES.__getitem__,
            help="Lines on logarithmic axes, stacked areas on linear ones, or bars over the number of sequences.",
        )  # fmt: skip
    return model, Load(context, batch, fmt), str(over)


def metrics(spec: ModelSpec, cache: CacheBytes, picture: ContextPicture, variants: Sequence[Variant]) -> None:
    """Draw four numbers: bytes of the states, bytes set aside, growth per token, context that equals the weights."""
    full = max((row.state_bytes for row in variants if row.n_kv_heads == spec.n_heads), default=0)
    beside = f"MHA: {binary_bytes(full)}, {ratio(full / cache.state_bytes)}" if full > cache.state_bytes else None
    with frame.numbers():
        what = "one sequence" if cache.batch == 1 else counted(cache.batch, "sequence")
        _metric(
            f"{'Cache' if sharing.has_attention(spec) else 'State'} of {what} at {held(cache.context)}",
            binary_bytes(cache.state_bytes),
            beside,
        )
        _metric("An engine sets aside", *_set_aside(spec, cache))
        fixed = f"and {binary_bytes(cache.fixed_bytes)} whatever the context" if cache.fixed_bytes else None
        _metric("For one more token", binary_bytes(cache.bytes_per_token), fixed)
        _metric("Outgrows the weights at", *_crossing(picture, spec))


def _metric(label: str, value: str, beside: str | None = None) -> None:
    st.metric(label, value, beside, delta_color="off", delta_arrow="off", width="content")


def _allocation(spec: ModelSpec, cache: CacheBytes) -> allocation.Allocation:
    """The memory that an engine sets aside, with the assumptions chosen below the figure."""
    state = st.session_state
    return allocation.set_aside(
        spec,
        cache,
        tp=state["k_tp"],
        page_tokens=state["k_page"],
        max_context=state["k_static"] or None,
        window_pool=state["k_pool"],
    )


def _set_aside(spec: ModelSpec, cache: CacheBytes) -> tuple[str, str]:
    try:
        aside = _allocation(spec, cache)
    except ValueError:
        return "–", "see the assumptions below"
    if aside.tp > 1:
        return binary_bytes(aside.allocated_bytes), f"{binary_bytes(aside.bytes_per_rank)} on each of {aside.tp} ranks"
    added = aside.allocated_bytes - aside.state_bytes
    return binary_bytes(aside.allocated_bytes), f"{binary_bytes(added)} more" if added else "nothing more"


def _crossing(picture: ContextPicture, spec: ModelSpec) -> tuple[str, str | None]:
    if picture.weights is None:
        return "–", "parameter count not known"
    weights = f"weights {binary_bytes(picture.weights)}, {parameters(spec.n_parameters)} parameters"
    if picture.crossover is None:
        return "never", weights
    return held(picture.crossover), weights


def alt(label: str, cache: CacheBytes, picture: ContextPicture) -> str:
    """The figure in words, for people who cannot see it."""
    kinds = ", ".join(f"{KIND_NAMES[kind]} {binary_bytes(n)}" for kind, n in cache.by_kind.items() if n)
    text = (
        f"Cache of {label} over the context: {binary_bytes(cache.state_bytes)} at {counted(cache.context, 'token')} "
        f"and batch {cache.batch:,} ({picture.own}; one sequence by kind of layer: {kinds or 'nothing'})."
    )
    return (
        text
        if picture.crossover is None
        else f"{text} Larger than the weights from {counted(picture.crossover, 'token')}."
    )


def counterfactuals(spec: ModelSpec, rows: Sequence[Variant]) -> None:
    """Draw bars of the same model with other numbers of K/V heads."""
    st.subheader(_otherwise(rows), anchor=False)
    if not sharing.has_attention(spec):
        st.caption("This model has no K/V heads to share: its layers keep one state of fixed size.")
        return
    bars(
        figures.variants(rows),
        key="kv_variants",
        filename="kv-cache-sharing",
        empty="This model keeps nothing per sequence.",
        alt="Cache with other numbers of K/V heads: "
        + ", ".join(f"{row.label} {binary_bytes(row.state_bytes)}" for row in rows),
    )


def _otherwise(rows: Sequence[Variant]) -> str:
    """The heading: how large the cache would be as MHA and as MQA."""
    own = next((row for row in rows if row.is_model), None)
    others = [row for row in rows if row is not own and row.label in ("MHA", "MQA")]
    if own is None or not own.state_bytes or not others:
        return "The same model, shared otherwise"
    return f"Shared otherwise, it would be {' and '.join(_beside(row, own) for row in others)}"


def _beside(row: Variant, own: Variant) -> str:
    times = row.state_bytes / own.state_bytes
    return f"{ratio(times)} as large with {row.label}" if times >= 1 else f"{ratio(1 / times)} smaller with {row.label}"


def engine(spec: ModelSpec, cache: CacheBytes) -> None:
    """Draw the steps from the bytes that the states need to the bytes that an engine sets aside."""
    finding = st.container()
    columns = st.columns(4, gap="small", vertical_alignment="bottom")
    state = st.session_state
    choices = sorted({*allocation.tp_choices(spec), state["k_tp"]})
    columns[0].selectbox(
        "Ranks (TP)", choices, key="k_tp", help="Ranks of tensor parallelism. More ranks than K/V heads means copies."
    )
    columns[1].number_input("Page, tokens", 1, 2**16, key="k_page", help="Engines give out whole pages; 1: no pages.")
    columns[2].number_input(
        "Pre-allocate",
        0,
        MAX_CONTEXT,
        key="k_static",
        help="Tokens set aside in advance per sequence; 0: none.",
    )
    columns[3].selectbox(
        "Windows", allocation.WINDOW_POOLS, key="k_pool",
        format_func={"own": "own pool", "shared": "shared pool"}.__getitem__,
        help="Whether windowed layers keep their own short pages, or share a pool with layers of full length.",
    )  # fmt: skip
    aside = _allocation(spec, cache)
    more = aside.allocated_bytes - aside.state_bytes
    said = f"{binary_bytes(abs(more))} {'more' if more > 0 else 'less'} than" if more else "exactly"
    finding.subheader(f"An engine sets aside {said} what is needed", anchor=False)
    bars(
        figures.allocation(aside.steps),
        key="kv_allocation",
        filename="kv-cache-set-aside",
        joined=True,
        alt=f"From {binary_bytes(aside.state_bytes)} that the states need to {binary_bytes(aside.allocated_bytes)} "
        f"set aside: " + "; ".join(f"after {step.name} {binary_bytes(step.bytes_after)}" for step in aside.steps[1:]),
    )
    st.caption("  \n".join(f"**{step.name}**: {step.why}." for step in aside.steps[1:]) or "Nothing is added.")
    if aside.tp > 1:
        st.caption(f"Each of {aside.tp} ranks sets aside **{binary_bytes(aside.bytes_per_rank)}**.")


def formula(spec: ModelSpec, cache: CacheBytes) -> None:
    """Draw the formula with the model's numbers."""
    st.subheader(f"The formula, with the numbers put in: {binary_bytes(cache.state_bytes)}", anchor=False)
    fmt = cache_format(cache.kv_dtype)
    shown = breakdown.terms(spec, cache.load, most=MOST_TERMS)
    rest = cache.state_bytes - sum(t.total_bytes for t in shown)
    st.html(formulas.cache_formula(shown, len(state_counts(spec)) - len(shown), rest))
    bits = f"{fmt.bits_per_element:.4g} bits per element" + (" with its scales" if fmt.group_size else "")
    source = f" ({fmt.source})" if fmt.source else ""
    st.caption(f"**{fmt.name}**: {fmt.label}, {bits}{source}.")
    for note in spec.notes:
        st.caption(foreign_text.markdown(note))


def layer_rows(spec: ModelSpec, load: Load, most: int | None = None) -> list[dict[str, Any]]:
    """One row for each layer, or for the first `most`, with the bytes of one sequence."""
    return [
        {
            "layer": row.index,
            "kind": str(row.kind),
            "n_heads": layer.n_heads,
            "n_kv_heads": row.n_kv_heads,
            "positions": row.positions,
            "state_bytes": row.state_bytes,
        }
        for row, layer in zip(
            footprint.layers_bytes(spec, load.context, load.kv_dtype, most=most), spec.layers[:most], strict=True
        )
    ]


def layer_table(model: ChosenModel, load: Load, cache: CacheBytes) -> None:
    """Draw the table of layers for one sequence, with its downloads."""
    rows = layer_rows(model.spec, load, MOST_ROWS)
    st.subheader(_layers_finding(model.spec, cache.by_kind), anchor=False)
    frame.table(
        {"layer": _column(rows, "layer"), "kind": _column(rows, "kind"), "query heads": _column(rows, "n_heads"),
         "K/V heads": _column(rows, "n_kv_heads"), "positions held": _column(rows, "positions"),
         "bytes, one sequence": _column(rows, "state_bytes"),
         "size": [binary_bytes(row["state_bytes"]) for row in rows]},
        height=260, key="kv_layers",
        column_config={name: st.column_config.NumberColumn(format="localized")
                       for name in ("positions held", "bytes, one sequence")},
    )  # fmt: skip
    if model.spec.n_layers > MOST_ROWS:
        st.caption(f"The first {MOST_ROWS:,} of {model.spec.n_layers:,} layers; the files hold all of them.")
    downloads.buttons(
        lambda: layer_rows(model.spec, load),
        "kv_layers",
        model=model.key,
        context=load.context,
        batch=1,
        kv_dtype=load.kv_dtype,
    )


def _layers_finding(spec: ModelSpec, by_kind: Mapping[Kind, int]) -> str:
    """The heading: the kind of layer that keeps most of the cache."""
    whole = sum(by_kind.values())
    if not whole:
        return "Layer by layer"
    kind = max(by_kind, key=by_kind.__getitem__)
    n = sum(count for layer, count in spec.groups if layer.kind is kind)
    if n == spec.n_layers:
        return f"Layer by layer: all {n} keep the same kind of cache" if n > 1 else "The one layer"
    part = significant(100 * by_kind[kind] / whole)
    return f"{n} of {spec.n_layers} layers, {KIND_NAMES[kind]}, keep {part} % of it"


def _column(rows: Sequence[dict[str, Any]], key: str) -> list[Any]:
    return [row[key] for row in rows]
