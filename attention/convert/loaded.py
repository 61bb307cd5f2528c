"""The calibrated conversion of a model that is whole in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from attention.convert import attention_module as modules
from attention.convert.around_layers import embed
from attention.convert.calibration import InMemory, Shape, calibrate
from attention.convert.layouts import get_field, layout_of, text_config
from attention.convert.pooling import check_kv_heads
from attention.convert.refine import LayerReport, Settings


def n_rotated(arguments: dict[str, Any], family: str, head_dim: int) -> int:
    """Dimensions of a head that a layer's rotary embedding rotates, from the table among the layer's arguments.

    0 without such a table.
    """
    table = arguments.get("position_embeddings")
    if table is None:
        return 0
    width = int(table[0].shape[-1])
    return 2 * width if family == "gpt_oss" else width


def calibrated(
    model: Any,
    n_kv_heads: int,
    tokens: Tensor,
    settings: Settings | None = None,
    report: Callable[[LayerReport], None] = lambda layer: None,
) -> Any:
    """A copy of a causal language model of transformers with its K/V heads merged into `n_kv_heads`.

    Args:
        model: loaded with ``attn_implementation="eager"``; it does not change.
        n_kv_heads: a divisor of the model's number of K/V heads.
        tokens: int64[windows, length], text to calibrate on.
        settings: how to merge; None takes the defaults.
        report: called after each layer.

    Raises:
        ValueError: a family that has no K/V heads to merge, heads that do not divide, or a layer that cannot be merged.
    """
    settings = settings or Settings()
    family, layout = layout_of(model.config.to_dict())
    fields = text_config(model.config.to_dict())
    n_heads = int(get_field(fields, layout.heads_field))
    before = int(get_field(fields, layout.kv_heads_field) or n_heads)
    check_kv_heads(n_heads, before, n_kv_heads)
    layers = modules.find_layers(model, layout)
    hidden, arguments = embed(model, layers, tokens)
    state = modules.attention_of(layers[0], layout).state_dict()
    head_dim = state[f"{layout.out}.weight"].shape[1] // n_heads
    shape = Shape(family, layout, n_heads, before, n_kv_heads, n_rotated(arguments[0], family, head_dim))
    tensors: dict[int, dict[str, Tensor]] = {}

    def done(layer: LayerReport, new: dict[str, Tensor]) -> None:
        tensors[layer.layer] = new
        report(layer)

    calibrate(InMemory(layers), model.config, shape, hidden, arguments, settings, done)
    converted = type(model)(modules.config_with(model.config, layout, n_kv_heads))
    names = {id(layer): name for name, layer in model.named_modules()}
    inside = {index: f"{names[id(layer)]}.{layout.attention}." for index, layer in enumerate(layers)}
    merged = {inside[index] + name: tensor for index, new in tensors.items() for name, tensor in new.items()}
    unchanged = {name: t for name, t in model.state_dict().items() if not name.startswith(tuple(inside.values()))}
    converted.load_state_dict(unchanged | merged)
    converted.tie_weights()
    return converted.to(next(model.parameters()).device, next(model.parameters()).dtype).train(model.training)
