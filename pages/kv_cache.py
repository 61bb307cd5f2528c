"""One model's cache: over context or batch, with its formula, its counterfactuals and an engine's share."""

import streamlit as st

from attention.formats import WEIGHT_BITS
from attention.memory import (
    allocation,
    breakdown,
    counterfactuals,
    footprint,
)
from attention.memory import (
    curves as cache_curves,
)
from attention.memory.load import MAX_CONTEXT
from ui import frame, lesson, model_weights, params, quiz
from ui.sections import kv_cache as sections
from ui.sections import kv_cache_verify
from ui.sections.waterfall import why_so_small
from viz import kv_cache as figures

AXES = ("log", "linear", "batch")
PARAMS = (
    params.choice("k_axes", AXES, "log"),
    params.choice("k_weights", list(WEIGHT_BITS), "bf16"),
    params.integer("k_tp", 1, 1, allocation.MAX_TP, per_model=True),
    params.integer("k_page", allocation.PAGE_TOKENS, 1, 2**16),
    params.integer("k_static", 0, 0, MAX_CONTEXT, per_model=True),
    params.choice("k_pool", allocation.WINDOW_POOLS, "own"),
    params.token("k_kept"),
    *quiz.keys("kv_cache"),
)

with frame.page(
    "kv_cache",
    title="KV cache",
    lead="Pick a model and move the context: what its cache of keys and values needs, byte for byte.",
    params=PARAMS,
):
    model, load, axes = sections.controls_bar(AXES)
    spec = model_weights.if_known(model)
    cache = footprint.cache_of(spec, load)
    variants = counterfactuals.variants(spec, cache)
    weights = breakdown.weight_bytes(spec.n_parameters, st.session_state["k_weights"])
    picture = cache_curves.over_context(spec, cache, weights)
    sections.metrics(spec, cache, picture, variants)
    if axes == "batch":
        batches = cache_curves.batches_around(load.batch)
        curves = cache_curves.curves_over_batch(spec, batches, load.context, load.kv_dtype)
        figure = figures.plot_over_batch(curves, chosen=load.batch, weights=weights)
    else:
        figure = figures.plot_over_context(picture, log=axes == "log")
    frame.chart(figure, key="kv_cache", filename="kv-cache", alt=sections.alt(model.label, cache, picture))
    st.caption(lesson.text(f"kv_cache_{axes}"))
    with frame.details():
        with frame.guard():
            why_so_small(spec, load, key="kv_waterfall")
        left, right = st.columns(2, gap="large")
        with left, frame.guard():
            sections.counterfactuals(spec, variants)
        with right, frame.guard():
            sections.engine(spec, cache)
        with frame.guard():
            sections.formula(spec, cache)
        with frame.guard():
            kv_cache_verify.verify(model, load)
        with frame.guard():
            sections.layer_table(model, load, cache)
        quiz.find_out("kv_cache", spec=spec, load=load)
