"""Points and roofs of the roofline page: the place of a decode step, and how batch and context move it."""

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
"""The batches of a point's trail: 1 to 1024."""


class Roof(NamedTuple):
    """The limits of one machine, in bytes and operations per second.

    Attributes:
        measured: whether the limits were measured on the machine (True) or come from a data sheet (False).
    """

    label: str
    bytes_per_s: float
    flops_per_s: float
    measured: bool

    @property
    def ridge(self) -> float:
        """Operations per byte from which arithmetic takes longer than memory."""
        return ridge(self.bytes_per_s, self.flops_per_s)


class Point(NamedTuple):
    """The place of a piece of work under a roof.

    Attributes:
        sharing: how the heads are shared: "MHA", "GQA-8", "MQA", "MLA".
        part: "whole step", "attention alone" or "measured".
        intensity: operations per byte.
        flops_per_s: operations per second that the roof allows there, or that were measured.
        trail: (intensity, flops_per_s) over BATCHES; empty where the batch does not move the point or it was measured.
        tokens_per_s: most tokens per second, all sequences together; None for attention alone.
        binds: the limit that applies, "memory" or "compute"; "" for a measured point.
        note: text shown on hover.
        fits: whether weights and states fit into the accelerator's memory; if not, the step cannot run.
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
    """The data of the figure."""

    roofs: tuple[Roof, ...]
    points: tuple[Point, ...]


def accelerator_roof(accelerator: Accelerator, weight_dtype: str) -> Roof:
    """The roof of an accelerator from its data sheet.

    Raises:
        ValueError: the data sheet gives no peak for the dtype.
    """
    peak = compute_peak(accelerator.flops_per_s, weight_dtype)
    if peak is None:
        raise ValueError(f"{accelerator.label} has no published peak for {weight_dtype}")
    return Roof(accelerator.label, accelerator.bytes_per_s, peak, False)


def host_roof(run: Run, dtype: str = "float32") -> Roof | None:
    """The roof of the machine of a run, as measured in the run; None if the run did not measure it."""
    own = [r for r in run.results if r.case.dtype == dtype]
    # rates measured between the timings describe them better than the calibration before the run
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
    """(name, model) of the model as MHA, as it is, and as MQA, each once.

    Raises:
        ValueError: the query heads of some layer do not allow it.
    """
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
    """The points of the whole decode step and of its attention alone, for each of :func:`variants`.

    A model without a number of parameters has attention alone. A step that checks `q_len` tokens of a sequence does
    `q_len` times the operations for the same bytes; its tokens per second assume that every drafted token is accepted.

    Raises:
        ValueError: unknown `weight_dtype`, or an accelerator without a peak for it.
    """
    roof = accelerator_roof(accelerator, weight_dtype)
    known = spec.n_parameters is not None
    setup = Setup(accelerator, 1, weight_dtype, load.kv_dtype)
    points: list[Point] = []
    for name, variant in variants(spec):
        # a model of unknown size gets one parameter; only the part of attention is used then
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
    """One point for each way to share heads: the operations per second that a timing reached, at its intensity.

    The timing is the fastest one over the largest cache. Only steady decode timings in `dtype` count.
    """
    best: dict[str, tuple[tuple[int, float], Point]] = {}
    for result in results:
        case = result.case
        if result.median_s is None or result.unsteady or case.dtype != dtype or case.phase != "decode":
            continue
        rate = case_flops(case) / result.median_s
        name = sharing.name(case.n_heads, case.n_kv_heads)
        note = f"{case.implementation.replace('_', ' ')}, context {case.context:,}, batch {case.batch}"
        point = Point(name, "measured", case_flops(case) / case_bytes(case), rate, note=note)
        # the processor's own caches help least with the largest KV cache
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
    """The points of the whole step; where there are none, those of attention alone."""
    whole = tuple(point for point in points if point.part == "whole step")
    return whole or tuple(point for point in points if point.part == "attention alone")
