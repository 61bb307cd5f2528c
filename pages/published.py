"""Published results: the papers' tables as printed, real models' caches, and timings of this host beside them."""

import streamlit as st

from attention.catalog import papers
from attention.memory.model_points import model_points
from attention.units import counted, significant
from ui import (
    controls,
    frame,
    jobs,
    lesson,
    params,
    quiz,
)
from ui.sections import spectrum
from viz.published import plot_models
from viz.spectrum import plot_quality, plot_token_cost

TABLES = {"GQA paper, Table 1": ("gqa", 1), "MQA paper, Table 1": ("mqa", 1), "MQA paper, Table 2": ("mqa", 2)}
TABLES["MQA paper, Table 3"] = ("mqa", 3)
ONE = papers.table("gqa", 1)
TWO = papers.table("mqa", 2)
ROWS = {q.model: (q.seconds, q.average) for q in spectrum.published()}
PARAMS = (
    params.choice("pub_pick", list(ROWS), "MHA-XXL"),
    params.choice("pub_table", list(TABLES), "GQA paper, Table 1"),
    params.token("pub_kept"),
    *quiz.keys("published"),
)
LEAD = "What sharing costs and saves in print, in real models, and on this machine."

with frame.page("published", title="Published results", lead=LEAD, params=PARAMS):
    left, middle, right = frame.bar(3.4, 2, 2)
    with left:
        picked = controls.segmented("Mark a model of Table 1", list(ROWS), "pub_pick")
    with middle:
        model = controls.model_picker("Mark a model of the catalogue")
    with right:
        held = controls.context()
    first, second = st.columns(2, gap="large")
    with first:
        frame.chart(
            plot_quality(spectrum.published(), picked),
            key="pub_quality",
            filename="gqa-paper-table-1",
            alt="; ".join(f"{name}: {t} s per sample, average {a}" for name, (t, a) in ROWS.items()),
        )
        st.caption(
            f"What to see: the way from MHA-XXL leads left, to less time, and hardly down. {ONE.citation}, as printed. "
            f"{ONE.note}"
        )
    with second:
        costs = spectrum.token_costs()
        frame.chart(
            plot_token_cost(costs),
            key="pub_tokens",
            filename="mqa-paper-table-2",
            alt="; ".join(f"{c.model}: greedy {c.greedy} µs, beam-4 {c.beam} µs per token" for c in costs),
        )
        st.caption(
            "What to see: the axis is logarithmic, so each step to the left is ten times less. "
            f"{TWO.citation}, decoder part, as printed: WMT14 EN-DE, length 128, TPUv2."
        )

    with frame.details():
        one, two = st.columns(2, gap="large")
        with one:
            lesson.show("published_gqa", **spectrum.table_one_values())
        with two:
            lesson.show(
                "published_mqa",
                greedy_mha=significant(TWO.value("multi-head", "Greedy dec"), 2),
                greedy_mqa=significant(TWO.value("multi-query", "Greedy dec"), 2),
            )
            jobs.button(
                "published",
                "bench",
                {"cases": spectrum.table_one_cases(), "seconds_per_case": 0.3},
                label="Time the same sharing here",
            )
            jobs.panel(
                "published",
                spectrum.draw_table_one,
                idle="Attention of one decode step with the XXL model's heads (64 of size 64), 2,048 tokens, batch 4.",
                address="pub_kept",
            )
        points = model_points(held)
        st.subheader(spectrum.rank(points, model.key, held), anchor=False)
        frame.chart(
            plot_models(points, held, model.key),
            key="pub_models",
            filename="cache-of-real-models",
            alt=f"Cache of one sequence at {counted(held, 'token')} against parameters, for every catalogue model.",
        )
        st.caption(
            "What to see: at the same number of parameters the caches lie far apart, by how heads are shared (colour: "
            "of the main layers). Computed from each model's published configuration."
        )
        shown = controls.segmented("Table", list(TABLES), "pub_table")
        table = papers.table(*TABLES[shown])
        frame.records(table.records())
        st.caption(f"{table.citation}: {table.caption}. {table.note}")
        quiz.find_out("published", rows=ROWS, picked=picked)
