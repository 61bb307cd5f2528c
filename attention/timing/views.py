"""Timings arranged for figures and tables: which are compared with which."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import log
from typing import NamedTuple

from attention import sharing
from attention.kernels import names
from attention.kernels.case import Case, Result
from attention.kernels.kinds.case import KindResult
from attention.timing import runs
from attention.timing.runs import Run
from attention.timing.steadiness import STILL_TIMED, Interval, ratio_interval
from attention.units import duration, ratio, significant, tokens


class Shape(NamedTuple):
    """What must be equal for two timings to be comparable; K/V heads and implementation may differ."""

    n_heads: int
    head_dim: int
    context: int
    batch: int
    dtype: str
    phase: str


class Bar(NamedTuple):
    """One timing in a figure. Times are in seconds; `name` gives the row, `n_kv_heads` the colour."""

    name: str
    n_kv_heads: int
    n_heads: int
    median_s: float
    iqr_s: float
    floor_s: float
    bound: str
    implementation: str
    unsteady: str = ""

    @property
    def sharing(self) -> str:
        return sharing.name(self.n_heads, self.n_kv_heads)


class Speed(NamedTuple):
    """The fastest timing of one sharing, compared with the first sharing's.

    Attributes:
        name: the sharing: MHA, GQA-8 or MQA.
        median_s: median time in seconds.
        times_floor: median divided by floor.
        faster: how many times faster than the first; None for the first, and where nothing may be concluded.
        unsteady: why nothing may be concluded, in words; empty if the timing is steady.
    """

    name: str
    median_s: float
    times_floor: float | None
    faster: Interval | None
    unsteady: str


class Curve(NamedTuple):
    """The fastest implementation over the context, for one number of K/V heads."""

    n_kv_heads: int
    n_heads: int
    context: tuple[int, ...]
    median_s: tuple[float, ...]
    floor_s: tuple[float, ...]
    implementation: tuple[str, ...]

    @property
    def sharing(self) -> str:
        return sharing.name(self.n_heads, self.n_kv_heads)


def shape_of(result: Result) -> Shape:
    return Shape(*(getattr(result.case, name) for name in Shape._fields))


def shapes(results: Iterable[Result]) -> tuple[Shape, ...]:
    """The shapes that were timed, in order."""
    return tuple(dict.fromkeys(shape_of(result) for result in results))


def describe(shape: Shape) -> str:
    """A shape in words: "Decode at context 4k, 32 query heads of 128, float32"."""
    batch = f"batch {shape.batch}, " if shape.batch > 1 else ""
    heads = f"{shape.n_heads} query heads of {shape.head_dim}"
    return f"{shape.phase.capitalize()} at context {tokens(shape.context)}, {batch}{heads}, {shape.dtype}"


def bars(results: Iterable[Result], shape: Shape) -> tuple[Bar, ...]:
    """The timings of one shape, ordered by implementation as in ``names``, then by K/V heads, the most first."""
    timed = [r for r in results if shape_of(r) == shape and r.median_s is not None]
    order = {name: place for place, name in enumerate(dict.fromkeys([*names.DECODE, *names.PREFILL]))}
    timed.sort(key=lambda r: (order.get(r.case.implementation, 99), -r.case.n_kv_heads))
    return tuple(_bar(r, names.label(r.case.implementation)) for r in timed)


def _bar(result: Result, name: str) -> Bar:
    assert result.median_s is not None
    return Bar(
        name,
        result.case.n_kv_heads,
        result.case.n_heads,
        result.median_s,
        result.iqr_s or 0.0,
        result.floor_s or 0.0,
        result.bound,
        result.case.implementation,
        result.unsteady,
    )


def fastest(results: Iterable[Result], shape: Shape | None = None) -> dict[int, Result]:
    """Number of K/V heads -> the fastest timing, the most heads first. Given a shape, only its timings count."""
    best: dict[int, Result] = {}
    # sorting is stable: of two equally fast results the first counts
    for result in sorted(results, key=lambda r: r.median_s or 0.0):
        if result.median_s is not None and shape in (None, shape_of(result)):
            best.setdefault(result.case.n_kv_heads, result)
    return dict(sorted(best.items(), reverse=True))


def curves(results: Sequence[Result], shape: Shape) -> tuple[Curve, ...]:
    """The fastest timings at all contexts, for shapes that are equal to `shape` but for the context."""
    found: dict[int, list[Result]] = {}
    for other in shapes(results):
        if other._replace(context=shape.context) == shape:
            for n_kv_heads, result in fastest(results, other).items():
                found.setdefault(n_kv_heads, []).append(result)
    out = []
    for n_kv_heads, points in sorted(found.items(), reverse=True):
        points.sort(key=lambda r: r.case.context)
        out.append(
            Curve(
                n_kv_heads,
                shape.n_heads,
                tuple(p.case.context for p in points),
                tuple(p.median_s or 0.0 for p in points),
                tuple(p.floor_s or 0.0 for p in points),
                tuple(names.label(p.case.implementation) for p in points),
            )
        )
    return tuple(out)


def host_bars(runs: Iterable[Run], shape: Shape) -> tuple[Bar, ...]:
    """The fastest timings of a shape on several machines. Machines of the same name are numbered."""
    out: list[Bar] = []
    seen: dict[str, int] = {}
    for run in runs:
        seen[run.label] = seen.get(run.label, 0) + 1
        name = run.label if seen[run.label] == 1 else f"{run.label} ({seen[run.label]})"
        out += [_bar(result, name) for result in fastest(run.results, shape).values()]
    return tuple(out)


def common_shapes(runs: Sequence[Run]) -> tuple[Shape, ...]:
    """Shapes that every run has, in the first one's order."""
    if not runs:
        return ()
    others = [set(shapes(run.results)) for run in runs[1:]]
    return tuple(shape for shape in shapes(runs[0].results) if all(shape in other for other in others))


def latest(results: Iterable[Result]) -> tuple[Result, ...]:
    """The last result of each case, in the order of these results.

    A run gives provisional results before the final ones, and it tries small caches first.
    """
    last: dict[Case, Result] = {}
    for result in results:
        last.pop(result.case, None)
        last[result.case] = result
    return tuple(last.values())


def faster(base: Result | KindResult, other: Result | KindResult) -> Interval | None:
    """How many times faster `other` is than `base`; None where nothing may be concluded.

    The two must be timed in the same rounds; each round gives a ratio. A run of an older version has only medians, and
    their ratio is the whole interval.
    """
    if base.unsteady or other.unsteady or not base.median_s or not other.median_s:
        return None
    if base.times_s or other.times_s:
        same = base.together == other.together and base.case.compared_with == other.case.compared_with
        return ratio_interval(base.times_s, other.times_s) if same else None
    return Interval(*[base.median_s / other.median_s] * 3)


def faster_text(found: Interval | None, word: str = "faster") -> str:
    """A ratio in words: "3.9× faster (3.7–4.1)", "no difference seen (0.97×–1.04×)"; empty without one."""
    if found is None:
        return ""
    around = f" ({significant(found.low)}–{significant(found.high)})" if found.low != found.high else ""
    if found.low != found.high and not found.differs:
        return f"no difference seen{around}"
    if found.mid < 1 and word == "faster":
        around = f" ({significant(1 / found.high)}–{significant(1 / found.low)})" if around else ""
        return f"{ratio(1 / found.mid)} slower{around}"
    return f"{ratio(found.mid)} {word}{around}"


def speedups(results: Iterable[Result], shape: Shape) -> tuple[Speed, ...]:
    """The fastest timing of each sharing, the most K/V heads first."""
    best = list(fastest(results, shape).values())
    return tuple(
        Speed(
            sharing.name(result.case.n_heads, result.case.n_kv_heads),
            result.median_s or 0.0,
            result.times_floor,
            None if result is best[0] else faster(best[0], result),
            result.unsteady,
        )
        for result in best
    )


def finding(results: Iterable[Result], shape: Shape) -> str:
    """What the steady timings of one shape say about sharing, in one sentence; "" where nothing may be concluded."""
    speeds = speedups(results, shape)
    if len(speeds) < 2 or speeds[0].unsteady:
        return ""
    found = [(speed.faster.mid, speed) for speed in speeds[1:] if speed.faster is not None]
    if not found:
        return ""
    _, best = max(found, key=lambda pair: pair[0])
    said = faster_text(best.faster)
    if said.startswith("no difference"):
        return f"{best.name} beside {speeds[0].name}: {said}"
    return f"{best.name} is {said} than {speeds[0].name}"


def what_binds(results: Iterable[Result], shape: Shape) -> str:
    """Which limit sets the floor of one shape's timings, in words; "" if none is known."""
    bounds = {r.case.n_kv_heads: r.bound for r in results if shape_of(r) == shape and r.floor_s and r.bound}
    if not bounds:
        return ""
    if len(set(bounds.values())) == 1:
        return "Memory sets the floor" if next(iter(bounds.values())) == "memory" else "Arithmetic sets the floor"
    n_heads = shape.n_heads
    by_memory = [sharing.name(n_heads, n) for n in sorted(bounds, reverse=True) if bounds[n] == "memory"]
    return f"Memory sets the floor of {', '.join(by_memory)}, arithmetic that of the others"


def trouble(results: Iterable[Result]) -> str:
    """Why nothing is concluded from some of the results, in words; empty if all are steady or still being timed."""
    return next((r.unsteady for r in results if r.unsteady and r.unsteady != STILL_TIMED), "")


def recorded_beside(shape: Shape, device: str = "cpu") -> str:
    """The speeds of the shape, or of the nearest one, in a run that ships with this project; in words."""
    found = [run for run in runs.recorded() if run.device == device]
    known = [(run, other) for run in found for other in shapes(run.results)]
    if not known:
        return ""

    def apart(other: Shape) -> tuple[bool, bool, float, float]:
        return (
            other.phase != shape.phase,
            (other.n_heads, other.head_dim) != (shape.n_heads, shape.head_dim),
            abs(log(other.context / shape.context)) + abs(log(other.batch / shape.batch)),
            float(other.dtype != shape.dtype),
        )

    run, nearest = min(known, key=lambda pair: apart(pair[1]))
    parts = [
        f"{speed.name} {duration(speed.median_s)}"
        + (f" ({faster_text(speed.faster)})" if faster_text(speed.faster) else "")
        for speed in speedups(run.results, nearest)
    ]
    what = "" if nearest == shape else f", {describe(nearest)[:1].lower()}{describe(nearest)[1:]}"
    return f"On a quiet machine (recorded on {run.label}{what}): {', '.join(parts)}."
