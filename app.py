"""The first page: pick a model, see its heads, what its cache needs, and how fast it decodes here."""

import streamlit as st

from attention.memory.counterfactuals import ends
from ui import controls, frame
from ui.components.head_map import head_map
from ui.sections import explore as sections

with frame.page(
    "explore",
    title="See why models share keys and values",
    lead="Pick a model to see which heads share and what its cache needs, then press Run to time it on this machine.",
    params=(sections.KEPT,),
):
    sections.examples()
    model, load, _ = controls.compute_bar()
    layer = model.spec.attention_layer
    rows = ends(model.spec, load)
    left, right = st.columns([1.9, 1], gap="large")
    with left:
        head_map(layer or model.spec.layers[0], key="head_map")
    with right:
        sections.cache(model, load, rows)
    with frame.details(), frame.guard():
        sections.timing(layer, load)
