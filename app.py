"""The first page: pick a model, see its heads, what its cache needs, and how fast it decodes here."""

import streamlit as st

from attention.memory.counterfactuals import ends
from ui import controls, frame, params
from ui.components.head_map import head_map
from ui.sections import explore as sections
from ui.sections.waterfall import why_so_small

with frame.page(
    "explore",
    title="See why models share keys and values",
    lead="Pick a model to see which heads share and what its cache needs, then press Run to time it on this machine.",
    params=(params.integer("e_kv", 0, 0, 1024, per_model=True), sections.KEPT),
):
    sections.examples()
    model, load, _ = controls.compute_bar()
    layer = model.spec.attention_layer
    left, right = st.columns([1.9, 1], gap="large")
    with left:
        place = st.container()
        chosen = sections.slider(layer, "e_kv")
    rows = ends(model.spec, load, n_kv_heads=chosen)
    shown = sections.shown(rows, chosen)
    with place:
        head_map(layer or model.spec.layers[0], key="head_map", n_kv_heads=chosen, intro=sections.intro(rows))
    with right:
        sections.cache(model, load, rows, shown)
    with frame.details():
        sections.words(layer, rows, shown)
        with frame.guard():
            sections.timing(layer, load)
        with frame.guard():
            # only for a model whose cache is small by at least two ideas
            why_so_small(model.spec, load, key="e_waterfall", at_least=3)
