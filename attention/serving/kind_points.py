"""Operations per byte of each kind of cache beside the ridges of accelerators: computed for a model's heads, and
measured by a recorded run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

from attention import sharing
from attention.catalog.published import Accelerator
from attention.kernels.case import MAX_TIMED_CONTEXT
from attention.kernels.kinds import names, shapes
from attention.kernels.kinds.case import BLOCK, KindCase, KindResult, kind_bytes, kind_flops
from attention.serving.roofline import attainable_flops_per_s, compute_peak, ridge
from attention.serving.roofline_points import Roof
from attention.spec import Kind, Layer, ModelSpec, PositionState, Role
from attention.timing.kind_runs import KindRun
from attention.timing.kind_views import format_name

FAMILIES = ("MHA", "GQA", "MQA", "MLA", "Window, K = V", "Quantised", "New tokens")
"""The groups of points, each with its own colour."""
NEW_TOKENS = (2, 4, 8)
WINDOW = 1024
"""Window in tokens for a model that has none; it is Gemma 3's."""
MOST_BATCH = 4096


class KindPoint(NamedTuple):
    """One kind of cache.

    Attributes:
        label: the kind in a few words; family: one of FAMILIES.
        intensity: operations per byte that must be moved.
        flops_per_s: operations per second that a roof allows there, or that were measured.
        measured: whether the point was measured; False: it was computed.
        note: text shown on hover.
    """

    label: str
    family: str
    intensity: float
    flops_per_s: float
    measured: bool
    note: str


class Ridge(NamedTuple):
    """The point at which an accelerator's roof bends: `intensity` in operations per byte, at the peak `flops_per_s`."""

    label: str
    intensity: float
    flops_per_s: float


class Intensities(NamedTuple):
    """The data of the figures. `roofs` are the accelerator's roof and then the roof of the recorded run's machine."""

    roofs: tuple[Roof, ...]
    computed: tuple[KindPoint, ...]
    measured: tuple[KindPoint, ...]
    ridges: tuple[Ridge, ...]


def of_model(spec: ModelSpec, context: int, batch: int) -> tuple[tuple[str, KindCase], ...]:
    """(name, case) of each decode step with a model's heads; empty for a model without heads.

    The steps are: shared in every way, windowed, with K = V, quantised, with several new tokens, and latent. Where the
    model is not MLA itself, the latent steps have DeepSeek-V3's sizes. A context or batch above what can be timed is
    cut to that; the change of the intensity is too small to see.
    """
    layer = spec.attention_layer
    if layer is None or not layer.n_heads:
        return ()
    size = {"context": min(context, MAX_TIMED_CONTEXT), "batch": min(batch, MOST_BATCH)}
    found = []
    for label, fields in _fields(spec, layer):
        try:
            found.append((label, KindCase(**{**size, **fields})))
        except ValueError:
            continue  # a size that kinds do not allow, or more new tokens than positions
    return tuple(found)


def _fields(spec: ModelSpec, layer: Layer) -> Iterator[tuple[str, dict]]:
    heads = {"kind": "full", "n_heads": layer.n_heads, "head_dim": layer.k_head_dim, "value_dim": layer.v_head_dim}
    latent = layer.kind is Kind.LATENT
    n_own = 8 if latent and layer.n_heads % 8 == 0 else layer.n_kv_heads
    own = sharing.name(layer.n_heads, n_own)
    for n in dict.fromkeys((layer.n_heads, n_own, 1)):
        yield sharing.name(layer.n_heads, n), {**heads, "n_kv_heads": n}
    rows = {**heads, "n_kv_heads": n_own}
    states = (state for other, _ in spec.groups for state in other.states if isinstance(state, PositionState))
    window = next((state.window for state in states if state.window), WINDOW)
    yield f"{own}, window", {**rows, "kind": "window", "window": window}
    if layer.k_head_dim == layer.v_head_dim:
        yield f"{own}, K = V", {**rows, "kind": "shared"}
    for name in ("int8-token", "fp8-head", "q8_0", "int4-g32", "q4_0"):
        if name in ("int8-token", "fp8-head") or not (layer.k_head_dim % BLOCK or layer.v_head_dim % BLOCK):
            yield f"{own}, {name}", {**rows, "k_format": name, "v_format": name}
    for n in NEW_TOKENS:
        yield f"{own}, {n} new tokens", {**rows, "q_len": n}
    yield from _latent(layer if latent else None)


def _latent(layer: Layer | None) -> Iterator[tuple[str, dict]]:
    """The MLA steps, with the sizes of the model's own layer, or of DeepSeek-V3 for None."""
    absorbed, expanded = _given(shapes.latent()), _given(shapes.expanded())
    if layer is not None:
        state = next(s for s in layer.states if isinstance(s, PositionState) and s.role is Role.LATENT)
        n, rank = layer.n_heads, state.k_head_dim
        absorbed = {**absorbed, "n_heads": n, "head_dim": rank + state.v_head_dim, "value_dim": rank}
        sizes = {"head_dim": layer.k_head_dim, "value_dim": layer.v_head_dim}
        expanded = {**expanded, "n_heads": n, "n_kv_heads": n, **sizes}
    yield "MLA, expanded", expanded
    yield "MLA, absorbed", absorbed
    for n in NEW_TOKENS:
        yield f"MLA, absorbed, {n} new tokens", {**absorbed, "q_len": n}


def _given(case: KindCase) -> dict:
    return {name: getattr(case, name) for name in ("kind", "n_heads", "n_kv_heads", "head_dim", "value_dim")}


def computed(spec: ModelSpec, context: int, batch: int, roof: Roof) -> tuple[KindPoint, ...]:
    """A point on an accelerator's roof for each step of :func:`of_model`, in the same order."""
    points = []
    for label, case in of_model(spec, context, batch):
        intensity = kind_flops(case) / kind_bytes(case)
        allowed = attainable_flops_per_s(intensity, roof.bytes_per_s, roof.flops_per_s)
        binds = "memory" if intensity < roof.ridge else "arithmetic"
        points.append(KindPoint(label, _family(case), intensity, allowed, False, f"{binds} binds"))
    return tuple(points)


def measured(run: KindRun, dtype: str = "bfloat16") -> tuple[KindPoint, ...]:
    """A point for each shape that a run timed: the fastest timing over the largest cache.

    The processor's own caches help least with the largest KV cache. Only steady timings in `dtype` count; of full
    attention only those with heads of 128.
    """
    best: dict[tuple, tuple[tuple[float, float], KindResult]] = {}
    for result in run.results:
        case = result.case
        if not result.median_s or result.unsteady or case.dtype != dtype or not _usual(case):
            continue
        kept = replace(case, context=1 << 20, batch=1, implementation="", top_k=min(case.top_k, 1))
        rank = (case.cache_bytes, kind_flops(case) / result.median_s)
        if kept.shape not in best or rank > best[kept.shape][0]:
            best[kept.shape] = rank, result
    found = [_measured(result) for _, result in best.values()]
    return tuple(sorted(found, key=lambda point: (FAMILIES.index(point.family), point.intensity)))


def _usual(case: KindCase) -> bool:
    return case.kind != "full" or case.head_dim == case.value_dim == 128


def _measured(result: KindResult) -> KindPoint:
    case = result.case
    assert result.median_s
    done = kind_flops(case)
    where = f"context {case.context:,}, batch {case.batch}, {case.implementation}"
    return KindPoint(named(case), _family(case), done / kind_bytes(case), done / result.median_s, True, where)


def named(case: KindCase) -> str:
    """The name of a shape, in the style of :func:`of_model`."""
    name = names.KINDS[case.kind].label if case.kind != "full" else sharing.name(case.n_heads, case.n_kv_heads)
    parts = [name]
    if (case.k_format, case.v_format) != ("dtype", "dtype"):
        parts.append(format_name(case))
    return ", ".join([*parts, *([f"{case.q_len} new tokens"] if case.q_len > 1 else [])])


def _family(case: KindCase) -> str:
    if case.q_len > 1:
        return "New tokens"
    if (case.k_format, case.v_format) != ("dtype", "dtype"):
        return "Quantised"
    if case.kind in ("window", "shared"):
        return "Window, K = V"
    if case.kind == "full":
        return sharing.name(case.n_heads, case.n_kv_heads).partition("-")[0]
    return "MLA"


def ridges(accelerators: Iterable[Accelerator], weight_dtype: str = "bf16") -> tuple[Ridge, ...]:
    """The ridge of each accelerator, the lowest first. Accelerators without a published peak are left out."""
    known = ((row, compute_peak(row.flops_per_s, weight_dtype)) for row in accelerators)
    found = [Ridge(row.label, ridge(row.bytes_per_s, peak), peak) for row, peak in known if peak]
    return tuple(sorted(found, key=lambda one: one.intensity))


def run_roof(run: KindRun, dtype: str = "bfloat16") -> Roof | None:
    """The roof of the machine of a run, from the highest rates measured with its steps; None if there are none."""
    own = [r for r in run.results if r.case.dtype == dtype and r.median_s]
    bandwidth = max((r.read_bytes_per_s or 0.0 for r in own), default=0.0)
    rate = max((r.flops_per_s or 0.0 for r in own), default=0.0)
    return Roof(run.label, bandwidth, rate, True) if bandwidth and rate else None


def beside_ridges(point: KindPoint, known: Iterable[Ridge]) -> tuple[tuple[Ridge, ...], tuple[Ridge, ...]]:
    """(accelerators on which arithmetic takes longer in such a step, accelerators on which memory does).

    Args:
        known: ridges in rising order of intensity.
    """
    rows = tuple(known)
    below = tuple(row for row in rows if row.intensity <= point.intensity)
    return below, rows[len(below) :]
