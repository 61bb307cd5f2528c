"""One slider from MHA over GQA to MQA, and all numbers that change with it."""

import streamlit as st

from attention.catalog import papers, published
from attention.serving.ranks import MAX_TP
from attention.serving.spectrum import is_latent, nearest_published, spectrum
from ui import (
    controls,
    frame,
    params,
    quiz,
)
from ui.components.head_map import head_map
from ui.sections import spectrum as sections
from ui.sections import why_not_mqa

ACCELERATOR = published.accelerator("h100-sxm")
PARAMS = (
    params.integer("spec_kv", 0, 0, 1024, per_model=True),
    params.integer("spec_tp", 8, 1, MAX_TP),
    params.token("spec_kept"),
    *quiz.keys("spectrum"),
)
LEAD = "Move one slider: heads, cache, weights, time and published quality move with it."

with frame.page("spectrum", title="One slider, three ways to share", lead=LEAD, params=PARAMS):
    model, load, (right,) = controls.compute_bar(2.4)
    spec = model.spec
    points = spectrum(spec, ACCELERATOR, load)
    by_heads = {p.n_kv_heads: p for p in points}
    with right:
        chosen = controls.divisor_slider(
            "spec_kv", spec.n_heads, spec.n_kv_heads, latent=is_latent(spec), possible=tuple(by_heads)
        )
    assert spec.attention_layer is not None  # spectrum() refuses a model without attention
    left, side = st.columns([3.4, 1], gap="large")
    with left:
        head_map(spec.attention_layer, key="spectrum_map", n_kv_heads=chosen or None)
    with side:
        sections.metrics(by_heads[chosen], points[-1], load)
    with frame.details():
        first, second = st.columns(2, gap="large")
        with first:
            sections.cost_chart(spec, points, chosen, load)
        with second:
            near = nearest_published(spec.n_heads, chosen) if chosen else ""
            table = papers.table("gqa", 1)
            sections.published_bars(near)
            st.caption(f"{table.citation}, as printed. {table.note}")
        st.caption(
            f"Least times are computed for {ACCELERATOR.label} from its data sheet, one layer, 16 bit: every key and "
            "value read once."
        )
        sections.show_lesson(spec, chosen, near)
        with frame.guard():
            why_not_mqa.show(spec, model.label, chosen)
        quiz.find_out("spectrum", spec=spec, n_kv_heads=chosen, load=load)
