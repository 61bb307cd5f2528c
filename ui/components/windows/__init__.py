"""A window that slides over the tokens: the tokens that each layer still keeps."""

from __future__ import annotations

from pathlib import Path

from attention.spec import Kind, Layer, ModelSpec
from attention.units import tokens
from ui.components.component import component

MOST_LAYERS = 8
"""At most this many layers are drawn, the first of the model that keep keys and values."""
_component = component(Path(__file__).parent, plays=True)


def has_windows(spec: ModelSpec) -> bool:
    """Whether one of the drawn layers has a sliding window. Chunks do not count: they start again and do not slide."""
    return any(layer.kind is Kind.SLIDING for layer in _drawn(spec))


def _drawn(spec: ModelSpec) -> list[Layer]:
    return [layer for layer in spec.layers[:1000] if layer.key_value is not None][:MOST_LAYERS]


def windows(spec: ModelSpec, label: str, *, key: str) -> None:
    """Draw the first layers of a model with windows.

    Args:
        label: the model's name, as people know it.
    """
    layers = _drawn(spec)
    held = [state.window if (state := layer.key_value) else None for layer in layers]
    window = next((w for w in held if w is not None), None)
    _component(
        key=key,
        data={
            "title": f"What the first {len(layers)} layers of {label} keep",
            "windowed": [w is not None for w in held],
            "window": "" if window is None else tokens(window),
        },
    )
