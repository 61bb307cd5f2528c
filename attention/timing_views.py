"""Timings arranged for figures and tables: what to compare with what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from attention import kernel_names
from attention.cases import Result
from attention.runs import Run


class Shape(NamedTuple):
    """What must be equal for two timings to be comparable; K/V heads and implementation may differ."""

    n_heads: int
    head_dim: int
    context: int
    batch: int
    dtype: str
    phase: str


class Bar(NamedTuple):
    """One timing in a figure. Times in seconds; `name` is the row, `n_kv_heads` the colour."""

    name: str
    n_kv_heads: int
    n_heads: int
    median_s: float
    iqr_s: float
    floor_s: float
    bound: str
    implementation: str


class Curve(NamedTuple):
    """The fastest implementation over the context, for one number of K/V heads."""

    n_kv_heads: int
    n_heads: int
    context: tuple[int, ...]
    median_s: tuple[float, ...]
    floor_s: tuple[float, ...]
    implementation: tuple[str, ...]


def shape_of(result: Result) -> Shape:
    return Shape(result.n_heads, result.head_dim, result.context, result.batch, result.dtype, result.phase)


def shapes(results: Iterable[Result]) -> tuple[Shape, ...]:
    """The shapes that were timed, in order."""
    return tuple(dict.fromkeys(shape_of(result) for result in results))


def describe(shape: Shape) -> str:
    """A shape in words: "Decode at context 4k, 32 query heads of 128, float32"."""
    from attention.units import tokens

    batch = f"batch {shape.batch}, " if shape.batch > 1 else ""
    heads = f"{shape.n_heads} query heads of {shape.head_dim}"
    return f"{shape.phase.capitalize()} at context {tokens(shape.context)}, {batch}{heads}, {shape.dtype}"


def sharing_name(n_heads: int, n_kv_heads: int) -> str:
    """MHA, GQA-8 or MQA."""
    if n_kv_heads == n_heads:
        return "MHA"
    return "MQA" if n_kv_heads == 1 else f"GQA-{n_kv_heads}"


def sharing(bar: Bar | Curve) -> str:
    return sharing_name(bar.n_heads, bar.n_kv_heads)


def bars(results: Iterable[Result], shape: Shape) -> tuple[Bar, ...]:
    """The timings of one shape, by implementation in the order of the lesson, then by K/V heads, most first."""
    known = [*kernel_names.DECODE, *kernel_names.PREFILL]
    timed = [r for r in results if shape_of(r) == shape and r.median_s is not None]
    timed.sort(key=lambda r: (known.index(r.implementation) if r.implementation in known else 99, -r.n_kv_heads))
    return tuple(_bar(r, kernel_names.label(r.implementation)) for r in timed)


def _bar(result: Result, name: str) -> Bar:
    assert result.median_s is not None
    return Bar(
        name,
        result.n_kv_heads,
        result.n_heads,
        result.median_s,
        result.iqr_s or 0.0,
        result.floor_s or 0.0,
        result.bound,
        result.implementation,
    )


def fastest(results: Iterable[Result], shape: Shape) -> dict[int, Result]:
    """For each number of K/V heads, most first, the fastest timing of the shape."""
    best: dict[int, Result] = {}
    for result in results:
        if result.median_s is None or shape_of(result) != shape:
            continue
        known = best.get(result.n_kv_heads)
        if known is None or known.median_s is None or result.median_s < known.median_s:
            best[result.n_kv_heads] = result
    return dict(sorted(best.items(), reverse=True))


def curves(results: Sequence[Result], shape: Shape) -> tuple[Curve, ...]:
    """The fastest timings over all contexts that were timed with the rest of the shape equal."""
    found: dict[int, list[Result]] = {}
    for other in shapes(results):
        if other._replace(context=shape.context) == shape:
            for n_kv_heads, result in fastest(results, other).items():
                found.setdefault(n_kv_heads, []).append(result)
    out = []
    for n_kv_heads, points in sorted(found.items(), reverse=True):
        points.sort(key=lambda r: r.context)
        out.append(
            Curve(
                n_kv_heads,
                shape.n_heads,
                tuple(p.context for p in points),
                tuple(p.median_s or 0.0 for p in points),
                tuple(p.floor_s or 0.0 for p in points),
                tuple(kernel_names.label(p.implementation) for p in points),
            )
        )
    return tuple(out)


def host_bars(runs: Iterable[Run], shape: Shape) -> tuple[Bar, ...]:
    """The fastest timings of a shape on several machines; machines of the same name are numbered."""
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


def speedups(results: Iterable[Result], shape: Shape) -> tuple[tuple[str, float, float | None, float | None], ...]:
    """(sharing, median in seconds, times faster than the first row, multiple of the floor) of the fastest timings."""
    best = list(fastest(results, shape).values())
    rows = []
    for result in best:
        first = best[0].median_s
        assert result.median_s is not None
        assert first is not None
        faster = None if result is best[0] else first / result.median_s
        rows.append((sharing_name(result.n_heads, result.n_kv_heads), result.median_s, faster, result.times_floor))
    return tuple(rows)
