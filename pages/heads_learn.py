"""What the heads of small trained models attend to."""

import streamlit as st

from attention.tiny.config import MODELS
from attention.tiny.text import EXAMPLES
from ui import (
    controls,
    frame,
    lesson,
    params,
    quiz,
)
from ui.components.attention_view import attention_view
from ui.sections import heads_learn as sections
from viz import heads_learn as figures

PARAMS = (
    params.choice("learn_model", list(MODELS), "gqa"),
    params.choice("learn_layer", [1, 2, 3, 4], 1),
    params.choice("learn_text", list(sections.CHOICES), next(iter(EXAMPLES))),
    sections.OWN_TEXT,
    sections.BYTE,
    sections.HEADS,
    *quiz.keys("heads_learn"),
)
LEAD = "Click a byte of the text and see where every head looks, and what the model expects next."

with frame.page("heads_learn", title="What the heads learn", lead=LEAD, params=PARAMS):
    left, middle, right = frame.bar(2, 2, 3)
    with left:
        name = controls.segmented("Model", list(MODELS), "learn_model", format_func=sections.LABELS.__getitem__)
    with middle:
        layer = controls.segmented("Layer", [1, 2, 3, 4], "learn_layer") - 1
    with right:
        choice = st.selectbox("Text", sections.CHOICES, key="learn_text", on_change=sections.forget_byte)
    cleaned = sections.chosen_text(choice, frame.below_bar())
    maps = sections.maps_of(name, cleaned.text)
    named = sections.head_names(name, layer)
    shown = sections.shown_heads(name, layer)
    if cleaned.note:
        st.caption(f"{cleaned.note[0].upper()}{cleaned.note[1:]}.")
    chosen = sections.chosen_byte(len(cleaned.text))
    attention_view(
        maps, cleaned.text, layer, MODELS[name], named, shown, chosen, key="attention", on_look=sections.look
    )

    with frame.details():
        record = sections.records()[name]
        lesson.show("learn_lead", **record["config"], steps=f"{record['recipe']['steps']:,}")
        n_texts = sections.roles()["n_texts"]
        table = sections.role_table(name, layer)
        lesson.show(
            "learn_roles",
            finding=sections.role_finding(name, layer),
            n_texts=n_texts,
            definitions=sections.definitions(),
        )
        frame.chart(
            figures.plot_roles(table),
            key="roles",
            filename=f"head-roles-{name}-layer-{layer + 1}",
            alt=f"Role scores of layer {layer + 1}. " + "; ".join(f"head {i}: {r}" for i, r in enumerate(named) if r),
        )
        st.caption("What to see: a dark field is a head that specialises; beneath, how many times chance that is.")
        first, second = st.columns(2, gap="large")
        with first:
            lesson.show(
                "learn_similarity",
                title=sections.similarity_title(name, layer),
                finding=sections.similarity_finding(name, layer),
            )
            frame.chart(
                figures.plot_similarity(sections.layer_similarity(name, layer), MODELS[name]),
                key="similarity",
                filename=f"head-similarity-{name}-layer-{layer + 1}",
                alt=sections.similarity_finding(name, layer),
            )
            st.caption("What to see: if sharing made heads alike, the framed fields would be the darkest.")
        with second:
            lesson.show(
                "learn_loss", title=sections.losses_title(), losses=sections.losses(), finding=sections.losses_finding()
            )
            frame.chart(
                figures.plot_training(sections.curves()),
                key="training",
                filename="tiny-training",
                alt="Validation loss of the four models over training steps, falling.",
            )
            st.caption("What to see: how far the curves part at the right is what sharing costs these models.")
        quiz.find_out("heads_learn", roles=sections.roles()["models"], model=name, layer=layer)
