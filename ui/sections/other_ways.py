"""Parts of the page on other methods that make the cache small: windows, a latent vector, shared layers."""

from __future__ import annotations

from attention.catalog import published
from attention.memory.load import Load
from attention.memory.waterfall import waterfall
from attention.spec import Kind, ModelSpec
from attention.units import binary_bytes, held, ratio
from ui import lesson
from ui.components.latent import GQA_8, latent
from ui.components.windows import has_windows

WINDOWED, LATENT = "google/gemma-3-27b-pt", "deepseek-ai/DeepSeek-V3"
"""The models to show if the chosen model has no windows, or no latent vector."""


def windowed(spec: ModelSpec, label: str) -> tuple[ModelSpec, str]:
    """(layers, label) of the chosen model if it has windows, otherwise of WINDOWED."""
    return (spec, label) if has_windows(spec) else _published(WINDOWED)


def _published(model: str) -> tuple[ModelSpec, str]:
    row = published.model(model)
    assert row.spec is not None
    return row.spec, row.label


def words(spec: ModelSpec, label: str, load: Load) -> None:
    """Draw a text for each method, with the numbers of a model that uses it."""
    shown, name = windowed(spec, label)
    steps = {step.name: step.state_bytes for step in waterfall(shown, load)}
    sizes = list(steps.values())
    title = "A window: keep the last tokens alone"
    if "windows" in steps:
        before = sizes[list(steps).index("windows") - 1]
        title = f"A window: at {held(load.context)} the cache of {name} is {ratio(before / steps['windows'])} smaller"
        finding = (
            f"At {held(load.context)} the windows of {name} take its cache from {binary_bytes(before)} to "
            f"**{binary_bytes(steps['windows'])}**, {ratio(before / steps['windows'])} smaller."
        )
    else:
        finding = f"At {held(load.context)} everything still fits into the windows of {name}: make the context longer."
    lesson.show("other_ways_windows", title=title, finding=finding)
    model, named = (spec, label) if _is_latent(spec) else _published(LATENT)
    layer = next(layer for layer, _ in model.groups if layer.kind is Kind.LATENT)
    assert layer.key_value is not None
    lesson.show(
        "other_ways_latent",
        label=named,
        latent=f"{layer.key_value.elements_per_position:,}",
        n_heads=layer.n_heads,
        gqa=f"{GQA_8:,}",
        mha=f"{layer.n_heads * (layer.k_head_dim + layer.v_head_dim):,}",
    )
    latent(model, named, key="latent")
    lesson.show("other_ways_layers")


def _is_latent(spec: ModelSpec) -> bool:
    return any(layer.kind is Kind.LATENT for layer, _ in spec.groups)
