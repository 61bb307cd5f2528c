"""Every catalogue model as one point: its size, its cache, how it shares."""

from __future__ import annotations

from typing import NamedTuple

from attention import sharing
from attention.catalog.published import ModelRow, models
from attention.memory.footprint import sequence_bytes


class ModelPoint(NamedTuple):
    """One model: one sequence's bytes at the chosen context, 16-bit cache."""

    id: str
    label: str
    sharing: str
    n_parameters: int
    cache_bytes: int
    released: str | None


def model_points(context: int) -> tuple[ModelPoint, ...]:
    """All models whose sizes are published, in the catalogue's order."""
    return tuple(p for row in models() if (p := _point(row, context)) is not None)


def _point(row: ModelRow, context: int) -> ModelPoint | None:
    spec = row.spec
    if spec is None or not row.n_parameters:
        return None
    return ModelPoint(
        row.id, row.label, sharing.family(spec), row.n_parameters, sequence_bytes(spec, context, "bf16"), row.released
    )
