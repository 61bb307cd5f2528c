"""The code of MHA, MQA and GQA, step by step, as it runs."""

import streamlit as st

from attention.lessons import code
from attention.lessons.code import STEPS
from ui import controls, frame, jobs, lesson, params, quiz
from ui.components import code_diff
from ui.sections import code as sections

PARAMS = (
    params.choice("code_step", list(STEPS), "MHA → MQA"),
    params.integer("code_kv", 0, 0, 1024, per_model=True),
    params.token("code_kept"),
    params.token("code_check_kept"),
    *quiz.keys("code"),
)
LEAD = "The classes that this site runs, and the few lines in which they differ."

with frame.page("code", title="The code, step by step", lead=LEAD, params=PARAMS):
    columns = frame.bar(1.9, 3.3, 1.9, 0.9, 0.9)
    with columns[4], frame.more():
        held = controls.context()
        controls.exact_context()
    with columns[0]:
        model = controls.model_picker()
    with columns[1]:
        step = controls.segmented("Step", list(STEPS), "code_step")
    with columns[2]:
        n_kv_heads = controls.divisor_slider("code_kv", *sections.heads_of(model.spec))
    with columns[3]:
        batch = controls.batch()
    sizes = sections.sizes_of(model.spec, n_kv_heads, batch, held)

    lesson.show(sections.STEP_LESSONS[step], **sections.lesson_values(sizes))
    lines = code.step_lines(step, sizes)
    code_diff.show(lines, label=f"Source code, step {step}", key="diff")

    with frame.details():
        whole, single, check, _ = st.columns([2, 2, 2, 3])
        with whole, st.popover("Copy the class", width="stretch"):
            st.code(code.class_text(STEPS[step][1]), language="python")
        single.download_button(
            "Download one file",
            code.script(sizes),
            "shared_heads.py",
            "text/x-python",
            width="stretch",
            help="All three classes and a check of what this page says; runs with torch alone.",
        )
        with check:
            jobs.button("code_check", "code_check", sections.payload(sizes), label="Run it")
        jobs.panel(
            "code_check",
            sections.draw_check,
            idle="Run it counts and checks the three classes, live on this server.",
            address="code_check_kept",
        )
        st.markdown(f"### Shapes in {STEPS[step][1]}")
        frame.records(sections.shape_rows(sizes, step))
        with frame.guard():
            sections.trap(sizes)
        quiz.find_out("code", sizes=sizes)
