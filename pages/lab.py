"""Convert the tiny MHA model to fewer K/V heads and watch it recover."""

from attention.lab_view import KV_HEADS, POOLINGS
from ui import controls, frame, jobs, lab_parts, lesson

LEAD = "Merge the K/V heads of a trained model, see its loss jump, and train it back, live on this server."

with frame.page("lab", title="Uptraining lab", lead=LEAD, params=lab_parts.PARAMS):
    heads, pool, alpha, layers, start = frame.bar(2.1, 2.1, 2.1, 1.9, 1.2)
    with heads:
        controls.segmented("K/V heads (MHA has 8)", KV_HEADS, "lab_kv")
    with pool:
        controls.segmented("Pooling", POOLINGS, "lab_pool")
    with alpha:
        controls.segmented("Alpha, % of training", lab_parts.PERCENTS, "lab_alpha")
    with layers:
        layer = controls.segmented("Layer shown", [1, 2, 3, 4], "lab_layer") - 1
    plan = lab_parts.chosen()
    with start:
        jobs.button(lab_parts.KEY, "uptrain_lab", plan.payload(), label="Start")
    jobs.panel(lab_parts.KEY, lab_parts.draw, plan, layer, idle=lesson.text("lab_idle"), address="lab_kept")

    with frame.details():
        lab_parts.recorded(plan)
        with frame.guard():
            lesson.show("lab_pooling_title")
            matrix = controls.segmented(
                "Projection", ["k", "v"], "lab_matrix", format_func={"k": "Keys", "v": "Values"}.__getitem__
            )
            lab_parts.pooling_picture(plan, layer, matrix)
