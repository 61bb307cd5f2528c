"""The head map, large: which query heads share keys and values, and what one decode step does with them."""

import streamlit as st

from attention.memory.layer_groups import layer_groups
from attention.memory.load import Load
from attention.serving import ranks
from attention.spec import Kind
from ui import controls, frame, params, quiz
from ui.components.head_map import STAGES, head_map
from ui.sections import heads as sections
from ui.state import name_anew

MOST_GROUPS = 256
"""At most this many kinds of layer can be chosen: the browser holds all of them, and no published model has more."""
PARAMS = (
    params.integer("h_kv", 0, 0, 1024, per_model=True),
    params.integer("h_layer", 0, 0, 9_999, per_model=True),
    params.integer("h_step", 0, 0, len(STAGES) - 1),
    params.integer("h_tp", 8, 1, ranks.MAX_TP),
    params.integer("h_dcp", 1, 1, ranks.MAX_TP),
    params.integer("h_dp", 1, 1, ranks.MAX_DP),
    *quiz.keys("heads"),
)

with frame.page(
    "heads",
    title="Heads",
    lead="Move the K/V heads slider and watch query heads share keys and values; then step through one token.",
    params=PARAMS,
):
    columns = frame.bar(3, 3.4, 3, 1)
    with columns[3], frame.more():
        controls.context()
        controls.exact_context()
        fmt = controls.cache_format()
    with columns[0]:
        model = controls.model_picker()
    spec = model.spec
    every = layer_groups(spec)
    groups = every[:MOST_GROUPS]
    with columns[2]:
        if st.session_state["h_layer"] >= len(groups):
            st.session_state["h_layer"] = 0
        name_anew("h_layer", [g.label for g in groups])
        index = st.selectbox(
            "Layer",
            range(len(groups)),
            format_func=lambda i: groups[i].label,
            key="h_layer",
            help="Equal layers stand together, the most frequent first.",
        )
    group = groups[int(index or 0)]
    layer = shown = mha = group.layer
    with columns[1]:
        if layer.n_kv_heads:
            n_kv_heads = controls.divisor_slider(
                "h_kv", layer.n_heads, layer.n_kv_heads, latent=layer.kind is Kind.LATENT
            )
            mha = sections.variant(layer, None)
            shown = sections.variant(layer, n_kv_heads) if n_kv_heads else layer
        else:
            st.select_slider("K/V heads", ["none"], disabled=True, key="h_kv_none", help="This layer keeps none.")

    load = Load(st.session_state["context"], 1, fmt)
    state = shown.key_value
    held = state.positions(load.context) / load.context if state else 1.0
    stage = st.session_state["h_step"]
    head_map(shown, key="head_map", held=held * (state.stride if state else 1), stage=stage)
    with frame.details():
        controls.segmented(
            "One decode step",
            range(len(STAGES)),
            "h_step",
            format_func=STAGES.__getitem__,
            label_visibility="collapsed",
        )
        left, right = st.columns([5, 6], gap="large")
        with left:
            sections.step(stage, shown, mha, load, spec)
        with right, frame.numbers():
            sections.metrics(shown, mha, load, spec)
        with frame.guard():
            sections.heads_per_rank(shown)
        sections.projection_table(shown, spec)
        st.caption(sections.where(group, spec.n_layers))
        if len(every) > MOST_GROUPS:
            st.caption(f"The first {MOST_GROUPS} of this model's {len(every):,} kinds of layer can be chosen.")
        quiz.find_out("heads", layer=shown)
