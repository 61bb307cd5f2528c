"""Where a decode step stands under a machine's roofline, and how batch and context move it."""

import streamlit as st

from attention.catalog import published
from attention.formats import WEIGHT_BITS
from attention.memory.load import Load
from attention.serving import roofline_points
from attention.serving.speculation import MAX_DRAFT_TOKENS
from attention.units import significant
from ui import (
    controls,
    frame,
    lesson,
    model_weights,
    params,
)
from ui.sections import roofline as sections
from viz import roofline as figures

ACCELERATORS = {row.id: row.label for row in published.accelerators() if row.flops_per_s}
PARAMS = (
    params.choice("r_acc", list(ACCELERATORS), "h100-sxm"),
    params.choice("r_weights", list(WEIGHT_BITS), "bf16"),
    params.choice("r_dtype", ["float32", "bfloat16"], "float32"),
    params.integer("r_draft", 0, 0, MAX_DRAFT_TOKENS),
    params.choice("r_view", [sections.STEP, sections.KINDS], sections.STEP),
    *sections.PARAMS,
)

with frame.page(
    "roofline",
    title="Roofline",
    lead="Move batch and context: the whole step climbs the slope, attention stays where its sharing puts it.",
    params=PARAMS,
):
    columns = frame.bar(2.2, 2.2, 2.2, 2, 0.9)
    with columns[0]:
        model = controls.model_picker()
    with columns[1]:
        context = controls.context(model)
    with columns[2]:
        batch = sections.batch_slider()
    accelerator_id = columns[3].selectbox(
        "Accelerator",
        list(ACCELERATORS),
        key="r_acc",
        format_func=ACCELERATORS.__getitem__,
        help="The data sheet's bandwidth and dense peak.",
    )
    with columns[4], frame.more():
        weights, fmt, dtype, q_len = sections.formats()
    accelerator = published.accelerator(accelerator_id)
    spec = model_weights.if_known(model)
    if sections.view() == sections.KINDS:
        sections.kinds(spec, accelerator, context, batch)
    else:
        host = sections.host_run()
        points = roofline_points.step_points(spec, accelerator, Load(context, batch, fmt), weights, q_len)
        roofs = [roofline_points.accelerator_roof(accelerator, weights)]
        if own_roof := roofline_points.host_roof(host, dtype):
            roofs.append(own_roof)
        with frame.numbers():
            for point in roofline_points.steps(points):
                rate = f"≤ {significant(point.tokens_per_s)} tokens/s" if point.tokens_per_s else "–"
                st.metric(
                    f"{point.sharing}, {point.binds} binds",
                    rate if point.fits else "does not fit",
                    help=("" if point.fits else f"Weights and cache are more than one {accelerator.label} holds. ")
                    + f"{significant(point.intensity)} operations per byte; all sequences of the batch together.",
                )
        frame.chart(
            figures.plot_roofline(
                roofline_points.Roofline(tuple(roofs), (*points, *roofline_points.measured_points(host.results, dtype)))
            ),
            key="r_figure",
            filename="headshare-roofline",
            alt="Operations per second over operations per byte: roofs of the machines, points of MHA, GQA and MQA.",
        )
        st.caption(lesson.text("roofline_figure", accelerator=accelerator.label, host=sections.host_name(host)))
        sections.drafting(q_len)
        with frame.details():
            text = "roofline" if spec.n_heads else "roofline_recurrent"
            lesson.show(
                text,
                finding=sections.finding(points, roofs[0]),
                ridge=significant(roofs[0].ridge),
                accelerator=accelerator.label,
            )
            sections.calibrate(host)
