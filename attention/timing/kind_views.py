"""Timings of kinds of cache arranged for figures and tables: which are compared with which. Free of torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from math import log
from typing import NamedTuple

from attention import sharing
from attention.errors import check_choice
from attention.kernels.kinds import names
from attention.kernels.kinds.case import ONE_PLANE, KindCase, KindResult
from attention.kernels.kinds.shapes import expanded, full, latent, quantised, shared, sparse, window
from attention.timing import kind_runs
from attention.timing.kind_runs import KindRun
from attention.timing.steadiness import STILL_TIMED, Interval
from attention.timing.views import faster, faster_text
from attention.units import ratio, tokens

Shapes = Callable[..., list[KindCase]]


class Topic(NamedTuple):
    """Shapes whose comparison teaches something.

    Attributes:
        label: the topic's name in the control.
        shapes: fields of a case -> the shapes. The others are compared with the first; in "tokens" with the first of
            their kind.
    """

    label: str
    shapes: Shapes


def _picked(context: int = 0, **other: object) -> KindCase:
    """A sparse step. It picks a quarter of a short context, and DeepSeek's 2,048 positions of a long one."""
    return sparse(max(1, min(2048, context // 4)), context=context, **other)


def _window(context: int = 0, **other: object) -> KindCase:
    return window(max(1, min(1024, context // 4)), context=context, **other)


TOPICS: dict[str, Topic] = {
    "mla": Topic("MLA beside GQA", lambda **size: [expanded(**size), latent(**size), _picked(**size), full(**size)]),
    "formats": Topic("Cache formats", lambda **size: quantised(**size)),
    "windows": Topic("Windows and K = V", lambda **size: [full(**size), _window(**size), shared(**size)]),
    "tokens": Topic(
        "New tokens", lambda **size: [kind(q_len=n, **size) for kind in (full, latent) for n in (1, 2, 4, 8)]
    ),
    "sizes": Topic(
        "Head sizes",
        lambda **size: [
            *(full(head_dim=n, **size) for n in (128, 64, 80, 96, 256)),
            full(head_dim=192, value_dim=128, **size),
        ],
    ),
}


class Place(NamedTuple):
    """Context, batch and dtype that the rows of a figure have in common."""

    context: int
    batch: int
    dtype: str

    @property
    def words(self) -> str:
        batch = f"batch {self.batch}, " if self.batch > 1 else ""
        return f"context {tokens(self.context)}, {batch}{self.dtype}"


class Row(NamedTuple):
    """One shape.

    Attributes:
        label: distinguishes the shape from the others of its topic.
        results: the shape's timings, in the order of ``names.IMPLEMENTATIONS``.
        best: the fastest of them, a steady one where there is any.
        faster: how many times faster `best` is than the best of the shape it is compared with; None where nothing may
            be concluded, because they were not timed in the same rounds or are not steady.
        refused: implementations that were tried and cannot run the shape.
    """

    label: str
    results: tuple[KindResult, ...]
    best: KindResult
    faster: Interval | None
    refused: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """How many times its floor the best timing takes, or why that says nothing yet; in words."""
        if self.best.unsteady:
            return "so far" if self.best.unsteady == STILL_TIMED else "not steady"
        return f"{ratio(self.best.times_floor or 0)} floor"


class Shown(NamedTuple):
    """The timings of one run at one context, batch and dtype.

    Attributes:
        source: the machine, in a few words.
        when: when the run was taken, in words.
        place: the context, batch and dtype.
        rows: the shapes of the topic.
    """

    source: str
    when: str
    place: Place
    rows: tuple[Row, ...]


def finding(rows: Sequence[Row], topic: str) -> str:
    """The largest steady difference from the shape that a row is compared with, in a sentence; "" without one."""
    found = [(abs(log(row.faster.mid)), row) for row in rows if row.faster is not None]
    if not found:
        return ""
    _, row = max(found, key=lambda pair: pair[0])
    base = next(other for other in rows if _is_base(other.best.case, row.best.case, topic))
    said = faster_text(row.faster)
    if said.startswith("no difference"):
        return f"{base.label} and {row.label}: {said}"
    return f"{row.label}: {said} than {base.label}"


def shapes(topic: str, context: int, dtype: str) -> list[KindCase]:
    """The cases that a run of the topic times.

    Raises:
        ValueError: an unknown topic, or a size out of range.
    """
    check_choice("topic", topic, TOPICS)
    return TOPICS[topic].shapes(context=context, dtype=dtype)


def latest(results: Iterable[KindResult]) -> tuple[KindResult, ...]:
    """The last result of each case, in the order in which the cases first came."""
    last: dict[KindCase, KindResult] = {}
    for result in results:
        last[result.case] = result
    return tuple(last.values())


def _same(case: KindCase) -> KindCase:
    """A shape as topics compare it: whether positions are picked or windowed counts, how many follows from the
    context."""
    picks, seen = min(case.top_k, 1), min(case.window, 1)
    return replace(case, implementation="", device="cpu", top_k=picks, window=seen)


def rows(results: Iterable[KindResult], topic: str, place: Place) -> tuple[Row, ...]:
    """The topic's shapes at one context, batch and dtype, in the topic's order. Results of other places are left out.

    A set is all results of the same rounds. Where several sets have a shape, the set with most of the topic's shapes
    counts, so that ratios are taken within the same rounds.
    """
    size = {"context": place.context, "batch": place.batch, "dtype": place.dtype}
    wanted = [_same(case) for case in TOPICS[topic].shapes(**size)]
    found: dict[KindCase, dict[int, list[KindResult]]] = {shape: {} for shape in wanted}
    refused: dict[KindCase, dict[str, None]] = {shape: {} for shape in wanted}
    for result in results:
        shape = _same(result.case)
        if shape not in found:
            continue
        if result.median_s:
            found[shape].setdefault(result.together, []).append(result)
        elif result.note:
            refused[shape][result.case.implementation] = None
    sets = [together for of_shape in found.values() for together in of_shape]
    order = sorted(dict.fromkeys(sets), key=lambda together: (-sets.count(together), together))
    best: dict[KindCase, KindResult] = {}
    out = []
    for shape, of_shape in found.items():
        if not of_shape:
            continue
        own = of_shape[next(together for together in order if together in of_shape)]
        best[shape] = fastest(own)
        base = next((b for s, b in best.items() if s is not shape and _is_base(s, shape, topic)), None)
        place_of = list(names.IMPLEMENTATIONS).index
        own.sort(
            key=lambda r: place_of(r.case.implementation) if r.case.implementation in names.IMPLEMENTATIONS else 99
        )
        found_faster = faster(base, best[shape]) if base else None
        out.append(Row(label(shape, topic), tuple(own), best[shape], found_faster, tuple(refused[shape])))
    return tuple(out)


def _is_base(first: KindCase, other: KindCase, topic: str) -> bool:
    return topic != "tokens" or first.kind == other.kind


def fastest(results: Iterable[KindResult]) -> KindResult:
    """The result with the shortest median; a steady result comes before any unsteady one."""
    return min(results, key=lambda r: (bool(r.unsteady), r.median_s or 0.0))


def label(case: KindCase, topic: str) -> str:
    """The words that distinguish a shape from the others of its topic."""
    if topic == "formats":
        return format_name(case)
    if topic == "sizes":
        return f"Heads of {case.head_dim}" + (f"/{case.value_dim}" if case.value_dim != case.head_dim else "")
    name = sharing.name(case.n_heads, case.n_kv_heads) if case.kind == "full" else names.KINDS[case.kind].label
    if topic == "tokens":
        return f"{name}, {case.q_len} new"
    return name


def format_name(case: KindCase) -> str:
    """The format of K and V in words: "bfloat16", "int8-token", "int8-token/int4-g32"."""
    k, v = (case.dtype if name == "dtype" else name for name in (case.k_format, case.v_format))
    return k if case.kind in ONE_PLANE or k == v else f"{k}/{v}"


def heads(case: KindCase) -> str:
    """Heads and their sizes: "32 query heads, 8 K/V of 128"."""
    size = f"{case.head_dim}" + (f"/{case.value_dim}" if case.value_dim != case.head_dim else "")
    return f"{case.n_heads} query heads, {case.n_kv_heads} K/V of {size}"


@cache
def recorded(topic: str) -> tuple[Shown, ...]:
    """The topic's timings in the runs that ship with this project."""
    return tuple(shown for run in kind_runs.recorded() for shown in of_run(run, topic))


def of_run(run: KindRun, topic: str) -> list[Shown]:
    """The topic's timings of a recorded run, at each context, batch and dtype that has them."""
    return of_results(run.results, topic, run.label, f"recorded {run.created[:10]}")


def of_results(results: Iterable[KindResult], topic: str, source: str, when: str) -> list[Shown]:
    """Timings of one machine, at each context, batch and dtype that has at least two of the topic's shapes.

    Places with the most shapes come first, then in the order of their timing.
    """
    by_place: dict[Place, list[KindResult]] = {}
    for result in results:
        place = Place(result.case.context, result.case.batch, result.case.dtype)
        by_place.setdefault(place, []).append(result)
    found = [Shown(source, when, place, rows(own, topic, place)) for place, own in by_place.items()]
    return sorted((shown for shown in found if len(shown.rows) > 1), key=lambda shown: -len(shown.rows))
