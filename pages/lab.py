"""Convert the tiny MHA model to fewer K/V heads and watch it recover."""

from attention.tiny.results import KV_HEADS, POOL_METHODS
from ui import (
    controls,
    frame,
    jobs,
    lesson,
)
from ui.sections import lab as sections
from ui.sections import lab_real

LEAD = "Merge a trained model's heads of keys and values, see its loss jump, and train it back, live on this server."

with frame.page("lab", title="Uptraining lab", lead=LEAD, params=sections.PARAMS):
    heads, pool, alpha, layers, start = frame.bar(2.1, 2.1, 2.1, 1.9, 1.2)
    with heads:
        controls.segmented("K/V heads (MHA has 8)", KV_HEADS, "lab_kv")
    with pool:
        controls.segmented("Pooling", POOL_METHODS, "lab_pool")
    with alpha:
        controls.segmented("Alpha, % of training", sections.PERCENTS, "lab_alpha")
    with layers:
        layer = controls.segmented("Layer shown", [1, 2, 3, 4], "lab_layer") - 1
    plan = sections.chosen()
    with start:
        jobs.button(sections.KEY, "uptrain_lab", plan.payload(), label="Start")
    jobs.panel(sections.KEY, sections.draw, plan, layer, idle=lesson.text("lab_idle"), address="lab_kept")

    with frame.details():
        sections.recorded(plan)
        with frame.guard():
            lab_real.section()
        with frame.guard():
            sections.pooling_picture(plan, layer)
