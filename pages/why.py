"""Why share K/V heads: the cache's memory and bandwidth bottleneck, animated."""

import streamlit as st

from attention import catalog, decode_story, foreign_text
from ui import controls, frame, lesson, model_weights, params, quiz, why_text
from ui.decode_animation import decode_animation, summary
from viz import why

ACCELERATORS = {a.id: a.label for a in catalog.accelerators()}
PARAMS = (params.choice("why_acc", list(ACCELERATORS), "h100-sxm" if "h100-sxm" in ACCELERATORS else "t4"),)
LEAD = "Play a decode: every new token reads all weights and the whole cache once more."

with frame.page("why", title="Why share K/V heads?", lead=LEAD, params=PARAMS):
    model, load, (right,) = controls.compute_bar(1.9)
    with right:
        chosen = st.selectbox("Accelerator", list(ACCELERATORS), format_func=ACCELERATORS.__getitem__, key="why_acc")
    accelerator = catalog.accelerator(str(chosen))
    spec = model_weights.known(model)
    weight_dtype = spec.model_dtype or "bf16"
    count = why_text.accelerators(spec, accelerator, load, weight_dtype)
    story = decode_story.tell(spec, accelerator, load.context, load.batch, load.kv, weight_dtype, count)

    decode_animation(story, accelerator, spec.n_kv_heads, key="decode", count=count)
    for note in story.notes:
        st.caption(f"Note: {foreign_text.markdown(note)}.")

    with frame.details():
        left, right_half = st.columns(2, gap="large")
        with left:
            values = why_text.values(model.label, spec, story, accelerator, load, weight_dtype)
            lesson.show("why_bottleneck" if spec.n_heads else "why_recurrent", **values)
        with right_half:
            frames = story.frames
            traffic = why.Traffic(
                [f.context for f in frames],
                [f.weight_bytes for f in frames],
                [f.cache_bytes for f in frames],
                story.crossover,
            )
            frame.chart(
                why.plot_traffic(traffic),
                key="why_traffic",
                filename="decode-traffic",
                alt=summary(story, accelerator, spec.n_kv_heads, count),
            )
            st.caption(
                "Computed: a lower bound from the data sheet's bandwidth and peak; each weight and each cached value "
                "is read once."
            )
        if spec.hidden_size and spec.n_heads:
            lesson.show("why_ratio", **why_text.ratio_values(spec, load))
        quiz.show("why", spec=spec, load=load, accelerator=accelerator, weight_dtype=weight_dtype)
