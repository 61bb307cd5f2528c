"""Every catalogue model as one point: its parameters, the size of its cache, and how it shares heads."""

from __future__ import annotations

from typing import NamedTuple

from attention import sharing
from attention.catalog.published import ModelRow, models
from attention.memory.footprint import sequence_bytes


class ModelPoint(NamedTuple):
    """One model; `cache_bytes` are those of one sequence at the chosen context with a 16-bit cache."""

    id: str
    label: str
    sharing: str
    n_parameters: int
    cache_bytes: int
    released: str | None


def model_points(context: int) -> tuple[ModelPoint, ...]:
    """The points of all models whose sizes are published, in the catalogue's order; `context` in tokens."""
    return tuple(p for row in models() if (p := _point(row, context)) is not None)


def _point(row: ModelRow, context: int) -> ModelPoint | None:
    spec = row.spec
    if spec is None or not row.n_parameters:
        return None
    return ModelPoint(
        row.id, row.label, sharing.family(spec), row.n_parameters, sequence_bytes(spec, context, "bf16"), row.released
    )
