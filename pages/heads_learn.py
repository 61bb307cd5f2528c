"""What the heads of small trained models attend to."""

import streamlit as st

from attention.tiny_config import MODELS
from attention.tiny_view import EXAMPLES
from ui import controls, frame, learn, lesson, params, quiz
from ui.attention_view import attention_view
from viz import head_roles

PARAMS = (
    params.choice("learn_model", list(MODELS), "gqa"),
    params.choice("learn_layer", [1, 2, 3, 4], 1),
    params.choice("learn_text", list(learn.CHOICES), next(iter(EXAMPLES))),
    learn.OWN_TEXT,
    learn.BYTE,
    learn.HEADS,
)
LEAD = "Click a byte of the text and see where every head looks, and what the model expects next."

with frame.page("heads_learn", title="What the heads learn", lead=LEAD, params=PARAMS):
    left, middle, right = frame.bar(2, 2, 3)
    with left:
        name = controls.segmented("Model", list(MODELS), "learn_model", format_func=learn.LABELS.__getitem__)
    with middle:
        layer = controls.segmented("Layer", [1, 2, 3, 4], "learn_layer") - 1
    with right:
        choice = st.selectbox("Text", learn.CHOICES, key="learn_text", on_change=learn.forget_byte)
    cleaned = learn.chosen_text(choice, frame.below_bar())
    maps = learn.maps_of(name, cleaned.text)
    named = learn.head_names(name, layer)
    shown = learn.shown_heads(name, layer)
    if cleaned.note:
        st.caption(f"{cleaned.note[0].upper()}{cleaned.note[1:]}.")
    chosen = learn.chosen_byte(len(cleaned.text))
    attention_view(maps, cleaned.text, layer, MODELS[name], named, shown, chosen, key="attention", on_look=learn.look)

    with frame.details():
        record = learn.records()[name]
        lesson.show("learn_lead", **record["config"], steps=f"{record['recipe']['steps']:,}")
        n_texts = learn.roles()["n_texts"]
        lesson.show("learn_roles", layer=layer + 1, n_texts=n_texts, definitions=learn.definitions())
        table = learn.role_table(name, layer)
        frame.chart(
            head_roles.plot_roles(table),
            key="roles",
            filename=f"head-roles-{name}-layer-{layer + 1}",
            alt=f"Role scores of layer {layer + 1}. " + "; ".join(f"head {i}: {r}" for i, r in enumerate(named) if r),
        )
        first, second = st.columns(2, gap="large")
        with first:
            lesson.show("learn_similarity", finding=learn.similarity_finding(name, layer))
            frame.chart(
                head_roles.plot_similarity(learn.layer_similarity(name, layer), MODELS[name]),
                key="similarity",
                filename=f"head-similarity-{name}-layer-{layer + 1}",
                alt=learn.similarity_finding(name, layer),
            )
        with second:
            lesson.show("learn_loss", losses=learn.losses(), finding=learn.losses_finding())
            frame.chart(
                head_roles.plot_training(learn.curves()),
                key="training",
                filename="tiny-training",
                alt="Validation loss of the four models over training steps, falling.",
            )
        quiz.show("heads_learn", roles=learn.roles()["models"], model=name, layer=layer)
