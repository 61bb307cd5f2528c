"""How exact the arithmetic is, and what the well-known mistakes cost."""

import streamlit as st

from attention import accuracy, accuracy_view
from ui import accuracy_parts, frame, params
from viz import accuracy as figures

PARAMS = (
    params.text("a_family", accuracy_parts.EVERY, r"[\w .-]{1,40}", "a family of the catalogue"),
    params.choice("a_which", accuracy_view.WHICH, "all"),
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
        accuracy_parts.nothing_yet()
        st.stop()
    family, which = accuracy_parts.pickers(results)
    accuracy_parts.metrics(accuracy_view.summary(results))
    mistakes = accuracy_view.mistakes(results, family)
    frame.chart(
        figures.plot_mistakes(mistakes, accuracy_parts.RULE_NAMES),
        key="accuracy",
        filename="what-mistakes-cost",
        alt=accuracy_parts.alt(mistakes),
    )
    with frame.details():
        accuracy_parts.rules(results)
        accuracy_parts.golden(results.golden)
        accuracy_parts.checks(accuracy_view.shown_checks(results.checks, which, family), results)
