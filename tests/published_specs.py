"""The layers of published models, for tests that need a real one."""

from __future__ import annotations

from attention.catalog import published
from attention.spec import ModelSpec


def spec_of(model_id: str) -> ModelSpec:
    """The layers of a model whose sizes are published."""
    spec = published.model(model_id).spec
    assert spec is not None, f"{model_id} has no published sizes"
    return spec
