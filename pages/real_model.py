"""A real model, its K/V heads copied, as published and merged, writing side by side."""

import streamlit as st

from attention.llm.plan import CACHE_DTYPES
from ui import controls, frame, jobs, lesson, quiz
from ui.sections import real_model as sections

LEAD = "Ask a published model, and watch it write with its keys and values copied, as trained, and merged, live here."

with frame.page("real_model", title="A real model", lead=LEAD, params=(*sections.PARAMS, *quiz.keys("real_model"))):
    prompt, tokens, fill, rest, start = frame.bar(4.4, 2.1, 2.1, 0.9, 1.2)
    with prompt:
        # without max_chars, with which the browser drops a longer text without a word
        st.text_area("Prompt", key=sections.PROMPT.key, height=68, on_change=sections.adopt_prompt)
    with tokens:
        st.select_slider("Tokens to write", sections.TOKENS, key="real_tokens")
    with fill:
        st.select_slider("Context before it, tokens", sections.FILLS, key="real_fill", format_func="{:,}".format)
    with rest, frame.more():
        controls.segmented("Prompt is", ["answer", "continue"], "real_chat", format_func=sections.CHAT.__getitem__)
        controls.segmented("Temperature", sections.TEMPERATURES, "real_temperature")
        st.number_input("Seed of the draws", 0, 2**31 - 1, step=1, key="real_seed")
        controls.segmented("Sequences at once", [1, 4, 16], "real_batch")
        controls.segmented("Cache in", CACHE_DTYPES, "real_kv")
    with frame.below_bar():
        asked = sections.payload()
    with start:
        jobs.button(sections.KEY, "generate", asked, label="Write")
    jobs.panel(sections.KEY, sections.draw, address="real_kept", refresh_s=sections.REFRESH_S)

    with frame.details():
        lesson.show("real_model")
        with frame.guard():
            sections.recorded_likeness()
        with frame.guard():
            sections.recorded_roles()
        sections.provenance()
        quiz.find_out("real_model", context=st.session_state["real_fill"], batch=st.session_state["real_batch"])
