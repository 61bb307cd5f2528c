"""Points and roofs of the roofline page: where a decode step stands, and how batch and context move it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from attention import sharing
from attention.catalog.published import Accelerator
from attention.formats import FORMAT_NAMES
from attention.kernels.case import (
    Result,
    case_bytes,
    case_flops,
)
from attention.memory.load import Load
from attention.memory.terms import remembered
from attention.serving.fit import Setup, fits
from attention.serving.roofline import (
    attainable_flops_per_s,
    compute_peak,
    decode_floor,
    ridge,
)
from attention.serving.speculation import checking
from attention.spec import ModelSpec
from attention.timing.runs import Run

BATCHES = tuple(2**n for n in range(11))
"""The batches a point is followed over: 1 to 1024."""


class Roof(NamedTuple):
    """One machine's limits. `measured` tells a host's own figures from a data sheet's."""

    label: str
    bytes_per_s: float
    flops_per_s: float
    measured: bool

    @property
    def ridge(self) -> float:
        """Operations per byte from which on arithmetic binds."""
        return ridge(self.bytes_per_s, self.flops_per_s)


class Point(NamedTuple):
    """Where a piece of work stands under a roof.

    Attributes:
        sharing: MHA, GQA-8, MQA, MLA.
        part: "whole step", "attention alone" or "measured".
        intensity: operations per byte.
        flops_per_s: what the roof allows there, or what was reached.
        trail: (intensity, flops_per_s) over BATCHES, empty where batch does not move it or it was measured.
        tokens_per_s: at most, all sequences together; None for attention alone.
        binds: "memory" or "compute".
        note: for the hover text.
        fits: whether weights and states fit into the accelerator's memory; without room for them there is no step.
    """

    sharing: str
    part: str
    intensity: float
    flops_per_s: float
    trail: tuple[tuple[float, float], ...] = ()
    tokens_per_s: float | None = None
    binds: str = ""
    note: str = ""
    fits: bool = True


class Roofline(NamedTuple):
    """What the figure shows."""

    roofs: tuple[Roof, ...]
    points: tuple[Point, ...]


def accelerator_roof(accelerator: Accelerator, weight_dtype: str) -> Roof:
    """Raises ValueError where the data sheet gives no peak."""
    peak = compute_peak(accelerator.flops_per_s, weight_dtype)
    if peak is None:
        raise ValueError(f"{accelerator.label} has no published peak for {weight_dtype}")
    return Roof(accelerator.label, accelerator.bytes_per_s, peak, False)


def host_roof(run: Run, dtype: str = "float32") -> Roof | None:
    """The roof of the machine a run was taken on, as it was measured in the run; None if it was not."""
    own = [r for r in run.results if r.case.dtype == dtype]
    # what was measured between the timings themselves is nearer to them than the calibration before
    rate = max((r.flops_per_s or 0.0 for r in own), default=(run.calibration.get("flops_per_s") or {}).get(dtype))
    bandwidth = max((r.read_bytes_per_s or 0.0 for r in own), default=run.calibration.get("read_bytes_per_s"))
    if not rate or not bandwidth:
        return None
    return Roof(f"{run.label}, {FORMAT_NAMES.get(dtype, dtype)}", float(bandwidth), float(rate), True)


def _shared(spec: ModelSpec, n_kv_heads: int | None) -> ModelSpec:
    key = ("variant", n_kv_heads, spec.name, spec.n_parameters)
    return remembered(spec, key, lambda: sharing.with_n_kv_heads(spec, n_kv_heads))


def _counted(spec: ModelSpec) -> ModelSpec:
    return remembered(spec, ("one parameter",), lambda: spec.with_parameters(1))


def variants(spec: ModelSpec) -> tuple[tuple[str, ModelSpec], ...]:
    """The model as MHA, as it is, and as MQA, each once."""
    layer = spec.attention_layer
    if layer is None or not layer.n_heads:
        return (("State", spec),)
    own = sharing.of_layer(layer)
    rows = {"MHA": _shared(spec, None), own: spec, "MQA": _shared(spec, 1)}
    rows[own] = spec
    return tuple(rows.items())


def step_points(
    spec: ModelSpec, accelerator: Accelerator, load: Load, weight_dtype: str, q_len: int = 1
) -> tuple[Point, ...]:
    """The whole decode step and its attention alone, for each of :func:`variants`, under an accelerator's roof.

    A model without a parameter count has attention alone. With `q_len` tokens of a sequence checked in one step the
    same bytes serve so many times the operations, and tokens per second are those if every drafted token is accepted.

    Raises:
        ValueError: unknown `weight_dtype`, or an accelerator without a peak for it.
    """
    roof = accelerator_roof(accelerator, weight_dtype)
    known = spec.n_parameters is not None
    setup = Setup(accelerator, 1, weight_dtype, load.kv_dtype)
    points: list[Point] = []
    for name, variant in variants(spec):
        # one parameter stands in where the count is not known: only the attention's part is read then
        counted = variant if known else _counted(variant)

        def at(batch: int, counted: ModelSpec = counted) -> tuple[int, int, int, int, float]:
            step = decode_floor(
                counted, accelerator, load.context, batch, weight_dtype=weight_dtype, kv_dtype=load.kv_dtype
            )
            states = step.cache_bytes + step.written_bytes
            checked = checking(step.floor, q_len, roof.bytes_per_s, roof.flops_per_s)
            return (*checked[:2], states, step.attention_flops * q_len, batch * q_len / checked.time_s)

        moved, flops, cache, attention, tokens_per_s = at(load.batch)
        if known:
            trail = [at(b) for b in BATCHES]
            points.append(
                _point(
                    name,
                    "whole step",
                    roof,
                    flops / moved,
                    trail=tuple((f / m, _allowed(f / m, roof)) for m, f, *_ in trail),
                    tokens_per_s=tokens_per_s,
                )._replace(fits=fits(variant, setup, load.context, load.batch))
            )
        if cache and attention:
            points.append(_point(name, "attention alone", roof, attention / cache))
    return tuple(points)


def measured_points(results: Iterable[Result], dtype: str = "float32") -> tuple[Point, ...]:
    """What the fastest timing of each sharing reached: its rate of operations over its intensity."""
    best: dict[str, tuple[tuple[int, float], Point]] = {}
    for result in results:
        case = result.case
        if result.median_s is None or result.unsteady or case.dtype != dtype or case.phase != "decode":
            continue
        rate = case_flops(case) / result.median_s
        name = sharing.name(case.n_heads, case.n_kv_heads)
        note = f"{case.implementation.replace('_', ' ')}, context {case.context:,}, batch {case.batch}"
        point = Point(name, "measured", case_flops(case) / case_bytes(case), rate, note=note)
        # the largest cache is the least helped by the processor's own caches
        rank = (case.cache_bytes, rate)
        if name not in best or rank > best[name][0]:
            best[name] = (rank, point)
    return tuple(point for _, point in best.values())


def _allowed(intensity: float, roof: Roof) -> float:
    return attainable_flops_per_s(intensity, roof.bytes_per_s, roof.flops_per_s)


def _point(
    name: str,
    part: str,
    roof: Roof,
    intensity: float,
    trail: tuple[tuple[float, float], ...] = (),
    tokens_per_s: float | None = None,
) -> Point:
    binds = "memory" if intensity < roof.ridge else "compute"
    return Point(name, part, intensity, _allowed(intensity, roof), trail, tokens_per_s, binds)


def steps(points: Sequence[Point]) -> tuple[Point, ...]:
    """The points of the whole step, or of attention alone where there are none."""
    whole = tuple(point for point in points if point.part == "whole step")
    return whole or tuple(point for point in points if point.part == "attention alone")
