"""Why heads share keys and values: an animation of the cache's memory and bandwidth."""

import streamlit as st

from attention import foreign_text
from attention.catalog import published
from attention.serving import decode
from ui import (
    controls,
    frame,
    lesson,
    model_weights,
    params,
    quiz,
)
from ui.components.decode_animation import PHASES, decode_animation, summary
from ui.sections import why as sections
from viz import why as figures

ACCELERATORS = {a.id: a.label for a in published.accelerators()}
PARAMS = (
    params.choice("why_acc", list(ACCELERATORS), "h100-sxm" if "h100-sxm" in ACCELERATORS else "t4"),
    params.choice("why_phase", PHASES, "decode"),
    *quiz.keys("why"),
)
LEAD = "Play a decode: every new token reads all weights and the whole cache once more."

with frame.page("why", title="Why share keys and values?", lead=LEAD, params=PARAMS):
    model, load, (right,) = controls.compute_bar(1.9)
    with right:
        chosen = st.selectbox("Accelerator", list(ACCELERATORS), format_func=ACCELERATORS.__getitem__, key="why_acc")
    accelerator = published.accelerator(str(chosen))
    spec = model_weights.known(model)
    weight_dtype = spec.model_dtype or "bf16"
    count = sections.accelerators(spec, accelerator, load, weight_dtype)
    trace = decode.trace(spec, accelerator, load, weight_dtype, count)

    with st.container(key="why_finding", horizontal=True, gap="small", vertical_alignment="center"):
        place = st.container()
        phase = sections.phase()
    with place:
        shown = sections.shown(phase, trace, model, spec, accelerator, load, weight_dtype, count)
    decode_animation(shown, accelerator, spec.n_kv_heads, key="decode", count=count, phase=phase)
    for note in trace.notes:
        st.caption(f"Note: {foreign_text.markdown(note)}.")
    if spec.n_heads:
        sections.users(spec, load, weight_dtype)

    with frame.details():
        sections.queries(spec, load, accelerator, weight_dtype)
        left, right_half = st.columns(2, gap="large")
        with left:
            values = sections.values(model.label, spec, trace, accelerator, load, weight_dtype)
            lesson.show("why_bottleneck" if spec.n_heads else "why_recurrent", **values)
        with right_half:
            frames = trace.frames
            traffic = figures.Traffic(
                [f.context for f in frames],
                [f.weight_bytes for f in frames],
                [f.cache_bytes for f in frames],
                trace.crossover,
            )
            st.subheader(sections.overtakes(trace, "cache" if spec.n_heads else "state"), anchor=False)
            frame.chart(
                figures.plot_traffic(traffic),
                key="why_traffic",
                filename="decode-traffic",
                alt=summary(trace, accelerator, spec.n_kv_heads, count),
            )
            st.caption(
                "What to see: the grey of the weights stays, the blue of the cache grows. Computed: a lower bound from "
                "the data sheet's bandwidth and peak; each weight and each cached value is read once."
            )
        if spec.hidden_size and spec.n_heads:
            lesson.show("why_ratio", **sections.ratio_values(spec, load))
            sections.why_not_one(spec, load)
        quiz.find_out("why", spec=spec, load=load, accelerator=accelerator, weight_dtype=weight_dtype)
