"""The report of a conversion: parameters, bytes on disk and bytes of cache, before and after."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attention.convert.plan import Plan
from attention.memory.footprint import sequence_bytes
from attention.spec import Kind, Layer, ModelSpec, PositionState, Role

CACHE_DTYPE = "bf16"
"""The cache format of a report's bytes per token."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a conversion does. Sizes are in bytes. The cache's sizes are per token, in the format `cache_dtype`."""

    source: str
    target: str
    family: str
    pool: str
    n_layers: int
    n_heads: int
    head_dim: int
    n_kv_heads_before: int
    n_kv_heads_after: int
    parameters_before: int
    parameters_after: int
    bytes_before: int
    bytes_after: int
    cache_dtype: str
    cache_bytes_per_token_before: int
    cache_bytes_per_token_after: int
    files_copied: tuple[str, ...]
    files_left_out: tuple[str, ...]
    dry_run: bool
    calibration: dict[str, Any] | None = None
    """For a calibrated conversion: text, tokens, grouping, the loss before and after on held-out text (if asked for),
    and for each layer its groups, the kept energy and the error of its attention."""
    served: dict[str, Any] | None = None
    """The result of ``served.check``, if that was asked for."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def report_of(plan: Plan, target: Path, copied: tuple[str, ...], left_out: tuple[str, ...], dry_run: bool) -> Report:
    """The report of a planned conversion. `copied` and `left_out` are names of other files in the source's folder."""
    return Report(
        source=str(plan.source.folder),
        target=str(target),
        family=plan.family,
        pool=plan.pool,
        n_layers=plan.n_layers,
        n_heads=plan.n_heads,
        head_dim=plan.head_dim,
        n_kv_heads_before=plan.n_kv_heads,
        n_kv_heads_after=plan.new_n_kv_heads,
        parameters_before=plan.source.n_parameters,
        parameters_after=plan.n_parameters,
        bytes_before=plan.source.n_bytes,
        bytes_after=plan.n_bytes,
        cache_dtype=CACHE_DTYPE,
        cache_bytes_per_token_before=_cache_bytes_per_token(plan, plan.n_kv_heads),
        cache_bytes_per_token_after=_cache_bytes_per_token(plan, plan.new_n_kv_heads),
        files_copied=copied,
        files_left_out=left_out,
        dry_run=dry_run,
    )


def _cache_bytes_per_token(plan: Plan, n_kv_heads: int) -> int:
    """Bytes that one more token adds in all layers, while it is inside their windows.

    They follow from the tensors' shapes. A config would first need the defaults of its class.
    """
    state = PositionState(Role.KEY_VALUE, n_kv_heads, plan.head_dim, plan.head_dim)
    layer = Layer(Kind.FULL, (state,), plan.n_heads, plan.head_dim, plan.head_dim)
    return sequence_bytes(ModelSpec(plan.family, (layer,) * plan.n_layers), 1, CACHE_DTYPE)
