"""The first page: pick a model, see its heads, what its cache needs, and how fast it decodes here."""

import streamlit as st

from attention.sharing import ways
from ui import controls, explore_parts, frame
from ui.head_map import head_map

with frame.page(
    "explore",
    title="See why models share keys and values",
    lead="Pick a model to see which heads share and what its cache needs, then press Run to time it on this machine.",
    params=(explore_parts.KEPT,),
):
    explore_parts.examples()
    model, load, _ = controls.compute_bar()
    layer = model.spec.attention_layer
    rows = ways(model.spec, load.context, load.batch, load.kv)
    left, right = st.columns([1.9, 1], gap="large")
    with left:
        head_map(layer or model.spec.layers[0], key="head_map")
    with right:
        explore_parts.cache(model, load, rows)
    with frame.details(), frame.guard():
        explore_parts.timing(layer, load)
