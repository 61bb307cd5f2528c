"""How query heads share key/value heads."""


from ui import controls, frame, params
from ui.head_map import head_map

PARAMS = (params.integer("h_kv", 0, 0, 1024, per_model=True),)

with frame.page(
    "heads", title="Heads", lead="Move the slider and watch query heads share keys and values.", params=PARAMS
):
    model, load, (right,) = controls.compute_bar(2.4)
    with right:
        n_kv = controls.divisor_slider("h_kv", model.spec.n_heads, model.spec.n_kv_heads)
    head_map(model.spec.attention_layer, key="map", n_kv_heads=n_kv)
