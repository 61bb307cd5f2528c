"""How exact the arithmetic is, and how many bytes off the well-known mistakes are."""

import streamlit as st

from attention.oracle import accuracy, accuracy_view
from ui import frame, params, quiz
from ui.sections import accuracy as sections
from viz import accuracy as figures

PARAMS = (
    params.text("a_family", sections.EVERY, r"[\w .-]{1,40}", "a family of the catalogue"),
    params.choice("a_which", accuracy_view.WHICH, "all"),
    *quiz.keys("accuracy"),
)

with frame.page(
    "accuracy",
    title="Accuracy",
    lead="Every model computed against its own code, and what each well-known mistake would cost.",
    params=PARAMS,
):
    try:
        results = accuracy.load()
    except FileNotFoundError:
        sections.nothing_yet()
        st.stop()
    family, which = sections.pickers(results)
    sections.metrics(accuracy_view.summary(results))
    mistakes = accuracy_view.mistakes(results, family)
    frame.chart(
        figures.plot_mistakes(mistakes, sections.RULE_NAMES),
        key="accuracy",
        filename="what-mistakes-cost",
        alt=sections.alt(mistakes),
    )
    with frame.details():
        sections.rules(results, mistakes)
        sections.golden(results.golden)
        sections.checks(accuracy_view.shown_checks(results.checks, which, family), results)
        with frame.guard():
            sections.engines()
        quiz.find_out("accuracy", results=results, family=family)
