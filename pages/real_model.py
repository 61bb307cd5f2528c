"""A real model: it writes with three sharings side by side; what its heads look at; what a cache format costs."""

import streamlit as st

from attention.llm.plan import CACHE_DTYPES
from ui import controls, frame, jobs, lesson, quiz
from ui.sections import real_formats as formats
from ui.sections import real_heads as heads
from ui.sections import real_model as sections
from ui.sections import real_text

LEAD = "Ask a published model, and watch it write with its keys and values copied, as trained, and merged, live here."
READY = "ready_model"
"""The kind of job that loads the model before the first run needs it."""

with frame.page("real_model", title="A real model", lead=LEAD, params=(*sections.PARAMS, *quiz.keys("real_model"))):
    view = controls.segmented(
        "Show", list(sections.VIEWS), "real_view", format_func=sections.VIEWS.__getitem__, label_visibility="collapsed"
    )

    if view == "words":
        prompt, tokens, fill, rest, start = frame.bar(4.4, 2.1, 2.1, 0.9, 1.2)
        with prompt:
            # no max_chars: with it the browser cuts a longer text and says nothing
            key = sections.PROMPT.key
            st.text_area("Prompt", key=key, height=68, on_change=real_text.adopt, args=(key, "prompt"))
        with tokens:
            st.select_slider("Tokens to write", sections.TOKENS, key="real_tokens")
        with fill:
            st.select_slider("Context before it, tokens", sections.FILLS, key="real_fill", format_func="{:,}".format)
        with rest, frame.more():
            controls.segmented("MQA's K/V heads", list(sections.MERGE), "real_merge",
                               format_func=sections.MERGE.__getitem__)  # fmt: skip
            controls.segmented("Prompt is", ["answer", "continue"], "real_chat", format_func=sections.CHAT.__getitem__)
            controls.segmented("Temperature", sections.TEMPERATURES, "real_temperature")
            st.number_input("Seed of the draws", 0, 2**31 - 1, step=1, key="real_seed")
            controls.segmented("Sequences at once", [1, 4, 16], "real_batch")
            st.selectbox("Cache in", CACHE_DTYPES, key="real_kv")
            st.selectbox("Its values in", [sections.SAME, *CACHE_DTYPES], key="real_kv_values")
        with frame.below_bar():
            asked = sections.payload()
        with start:
            jobs.button(sections.KEY, "generate", asked, label="Write", prepare=READY if asked else "")
        jobs.panel(
            sections.KEY, sections.draw, st.session_state["real_merge"], address="real_kept",
            refresh_s=sections.refresh_s,
        )  # fmt: skip

    elif view == "heads":
        found = heads.looked()
        text, layer, start = frame.bar(5, 3, 1.2)
        with text:
            own = real_text.area()
        with layer:
            shown = heads.chosen_layer(found)
            st.select_slider("Layer", range(1, found.about["n_layers"] + 1), key=heads.LAYER.key,
                             on_change=heads.forget_choice)  # fmt: skip
        with frame.below_bar():
            real_text.say(real_text.TEXT.key)
            asked = None if sections.missing() else heads.payload(own, shown)
        with start:
            jobs.button(heads.KEY, "heads", asked, label="Look", prepare=READY if asked else "")
        jobs.panel(heads.KEY, heads.nothing, refresh_s=sections.REFRESH_S)
        st.markdown(heads.note(found))
        heads.draw(found, shown)

    else:
        text, k, v, start = frame.bar(5, 1.6, 1.6, 1.2)
        with text:
            own = real_text.area()
        with k:
            st.selectbox("Keys in", formats.CHOICES, key="real_k", help="A pair that is tried beside all others.")
        with v:
            st.selectbox("Values in", formats.CHOICES, key="real_v", help="A pair that is tried beside all others.")
        with frame.below_bar():
            real_text.say(real_text.TEXT.key)
            asked = None if sections.missing() else formats.payload(own)
        with start:
            jobs.button(formats.KEY, "cache_formats", asked, label="Read", prepare=READY if asked else "")
        jobs.panel(formats.KEY, formats.draw, address="real_formats_kept")

    with frame.details():
        if view == "words":
            lesson.show("real_model")
        elif view == "heads":
            lesson.show("real_heads")
            with frame.guard():
                sections.recorded_likeness()
            with frame.guard():
                sections.recorded_roles()
        else:
            formats.lessons()
        sections.provenance()
        if view == "words":
            # the guess is about a control that only this view has
            quiz.find_out("real_model", context=st.session_state["real_fill"], batch=st.session_state["real_batch"])
