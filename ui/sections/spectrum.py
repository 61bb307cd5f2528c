"""Parts of the page MHA – GQA – MQA beside its head map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from attention.catalog import papers
from attention.kernels.case import Result
from attention.memory.load import Load
from attention.memory.model_points import ModelPoint
from attention.serving.spectrum import Point
from attention.spec import ModelSpec
from attention.timing import views
from attention.units import binary_bytes, counted, duration, held, parameters, ratio, significant
from attention.worker.client import Limits
from ui import frame, jobs, lesson, measured
from ui.components.bars import bars
from ui.jobs import Seen
from viz import bars as bar_figures
from viz import spectrum as figures
from viz.code import compare_trap, describe_trap, plot_trap

TIMED = ("folded_matmul", "split_matmul")
"""The implementations to time. Both read each K/V head once; the faster one counts."""
MOST_BYTES = 2**28
"""The most bytes of MHA's keys and values that are timed, in float32."""


def metrics(point: Point, mha: Point, load: Load) -> None:
    """Draw the numbers of the chosen number of K/V heads, against MHA."""
    st.metric(
        f"KV cache{' as MLA' if not point.n_kv_heads else ''}, {counted(load.context, 'token')}"
        + (f" × {load.batch:,}" if load.batch > 1 else ""),
        binary_bytes(point.cache_bytes),
        _smaller(point.cache_bytes, mha.cache_bytes),
        delta_color="off",
        delta_arrow="off",
    )
    if point.attention_parameters is not None and mha.attention_parameters:
        share = 100 * point.attention_parameters / mha.attention_parameters
        st.metric(
            "Parameters of attention",
            parameters(point.attention_parameters),
            f"{significant(share)} % of MHA's",
            delta_color="off",
            delta_arrow="off",
        )
    if point.floor_s is None or mha.floor_s is None:
        return
    st.metric(
        "One layer's step, at least",
        duration(point.floor_s),
        _smaller(point.floor_s, mha.floor_s, "faster"),
        delta_color="off",
        delta_arrow="off",
    )


def _smaller(own: float, most: float, word: str = "smaller") -> str:
    return "as MHA" if own == most else f"{ratio(most / own)} {word} than MHA"


def timed_context(spec: ModelSpec, load: Load) -> int:
    """The chosen context, halved until MHA's keys and values of one layer fit into MOST_BYTES."""
    context = load.context
    while context > 1 and 8 * spec.n_heads * spec.head_dim * context > MOST_BYTES:
        context //= 2
    return context


def cases(spec: ModelSpec, points: tuple[Point, ...], load: Load) -> list[dict[str, Any]]:
    """Cases of the bench job: every number of K/V heads, one sequence, one layer."""
    shared = {
        "n_heads": spec.n_heads,
        "head_dim": spec.head_dim,
        "context": timed_context(spec, load),
        "batch": 1,
        "dtype": "float32",
        "device": "auto",
    }
    return [
        {**shared, "implementation": name, "n_kv_heads": p.n_kv_heads} for p in points if p.n_kv_heads for name in TIMED
    ]


def best_results(job: Seen | None, spec: ModelSpec) -> dict[int, Result]:
    """Number of K/V heads -> its fastest result, of this model's heads only."""
    own = (spec.n_heads, spec.head_dim)
    return views.fastest(r for r in jobs.timings(job) if (r.case.n_heads, r.case.head_dim) == own)


def costs(spec: ModelSpec, points: tuple[Point, ...], chosen: int, job: Seen | None) -> figures.Costs:
    """The figure's numbers: everything as a share of MHA's."""
    mha = points[-1]
    found = best_results(job, spec)
    base = found.get(mha.n_kv_heads)
    times = {n: result.median_s or 0.0 for n, result in found.items()}
    steady = {n: ratio for n, result in found.items() if base and (ratio := _share_of(base, result)) is not None}
    whole = mha.attention_parameters
    return figures.Costs(
        [p.n_kv_heads for p in points],
        [f"{p.n_kv_heads or 'latent'}<br>{p.name.split('-')[0]}" for p in points],
        [p.cache_bytes / mha.cache_bytes for p in points],
        [p.attention_parameters / whole if whole and p.attention_parameters else None for p in points],
        [None if p.floor_s is None or not mha.floor_s else p.floor_s / mha.floor_s for p in points],
        steady,
        chosen,
        {
            "KV cache": [binary_bytes(p.cache_bytes) for p in points],
            "attention's parameters": [parameters(p.attention_parameters) for p in points],
            "time per step, at least": ["" if p.floor_s is None else duration(p.floor_s) for p in points],
            "time measured here": [duration(times[p.n_kv_heads]) if p.n_kv_heads in times else "" for p in points],
        },
    )


def _share_of(base: Result, result: Result) -> float | None:
    """The time over MHA's, from the rounds in which both were timed; None if they may not be compared."""
    if result is base:
        return None if base.unsteady else 1.0
    found = views.faster(base, result)
    return None if found is None else 1 / found.mid


def cost_chart(spec: ModelSpec, points: tuple[Point, ...], chosen: int, load: Load) -> None:
    """Draw the figure with its Run button; measured times join the lines as they arrive."""

    st.subheader(_cost_finding(points, chosen), anchor=False)
    st.caption(
        "In per cent of MHA's. What to see: the cache falls with the K/V heads; attention's parameters fall only in "
        "part, as those of queries and output stay."
    )

    def draw(job: Seen | None) -> None:
        numbers = costs(spec, points, chosen, job)
        measured.notice(list(best_results(job, spec).values()))
        frame.chart(
            figures.plot_costs(numbers),
            key="spectrum_costs",
            filename="mha-gqa-mqa",
            alt=f"Cost against MHA: {_with(chosen)} the cache is "
            f"{significant(100 * numbers.cache[list(numbers.n_kv_heads).index(chosen)])} % of MHA's.",
        )

    jobs.panel("spectrum", draw, address="spec_kept")
    jobs.button(
        "spectrum",
        "bench",
        {"cases": cases(spec, points, load), "seconds_per_case": 0.25},
        label="Time every step of the slider here",
        limits=Limits(seconds=90),
        help=f"One decode step of one layer, one sequence, {counted(timed_context(spec, load), 'token')}, float32, "
        "on this server; the faster of two implementations that read each K/V head once.",
    )


def _cost_finding(points: tuple[Point, ...], chosen: int) -> str:
    """The heading: the costs of the chosen number of K/V heads over MHA's."""
    mha = points[-1]
    point = next(p for p in points if p.n_kv_heads == chosen)
    if point is mha:
        return "With a K/V head for each query head everything is kept: 100 % of each cost"
    share = f"the cache is {significant(100 * point.cache_bytes / mha.cache_bytes)} % of MHA's"
    if point.attention_parameters is None or not mha.attention_parameters:
        return f"W{_with(chosen)[1:]} {share}"
    kept = significant(100 * point.attention_parameters / mha.attention_parameters)
    return f"With {counted(chosen, 'K/V head')} {share}, attention's parameters {kept} %"


def _with(chosen: int) -> str:
    return f"with {counted(chosen, 'K/V head')}" if chosen else "with a latent vector (MLA)"


def show_lesson(spec: ModelSpec, chosen: int, near: str) -> None:
    """Draw what the chosen number of K/V heads means, with the paper's model of this sharing; MLA has its own text."""
    if not chosen:
        layer = spec.attention_layer
        assert layer is not None
        assert layer.key_value is not None
        lesson.show(
            "spectrum_latent",
            n_heads=spec.n_heads,
            elements=f"{layer.key_value.elements_per_position:,}",
            mha=f"{spec.n_heads * (layer.k_head_dim + layer.v_head_dim):,}",
        )
        return
    table = papers.table("gqa", 1)
    lesson.show(
        "spectrum",
        n_heads=spec.n_heads,
        n_kv_heads=chosen,
        group_size=spec.n_heads // chosen,
        quality=f"The paper's model that shares in the same way is **{near}**: "
        f"{table.value(near, 'T_infer (s)')} s per sample at an average score of {table.value(near, 'Average')}, "
        f"where MHA-XXL has {table.value('MHA-XXL', 'T_infer (s)')} s and {table.value('MHA-XXL', 'Average')}.",
    )


def table_one_cases() -> list[dict[str, Any]]:
    """Cases of the bench job: T5.1.1-XXL's heads (64 of size 64), the paper's 2,048 tokens, the sharings of Table 1."""
    shared = {"n_heads": 64, "head_dim": 64, "context": 2048, "batch": 4, "dtype": "float32", "device": "auto"}
    return [{**shared, "implementation": name, "n_kv_heads": k} for k in (64, 8, 1) for name in TIMED]


def draw_table_one(job: Seen | None) -> None:
    """Draw this host's times of those cases; of two implementations the faster one."""
    results = list(views.fastest(jobs.timings(job)).values())
    if results:
        measured.notice(results)
        frame.chart(
            plot_trap(results), key="published_here", filename="measured-here", alt=describe_trap(results), height=260
        )
        if said := compare_trap(results):
            st.caption(f"Beside multi-head attention, round by round. {said}.")


def published() -> list[figures.Quality]:
    """Table 1 of the GQA paper."""
    table = papers.table("gqa", 1)
    return [
        figures.Quality(model, table.value(model, "T_infer (s)"), table.value(model, "Average"))
        for model, _ in table.rows
    ]


def published_bars(near: str) -> None:
    """Draw Table 1 as bars; `near` is the paper's model with the slider's sharing."""
    rows = published()
    lost = table_one_values()
    st.subheader(
        f"Published: eight K/V heads lose {lost['gqa_loss']} points, one loses {lost['mqa_loss']}", anchor=False
    )
    st.caption(
        "What to see: seconds per sample as bars, the average score beside them; bold shares as the slider does."
    )
    bars(
        bar_figures.published(rows, near),
        key="spectrum_quality",
        filename="gqa-paper-table-1",
        alt="; ".join(f"{row.model} {row.seconds} s per sample, average score {row.average}" for row in rows),
    )


def rank(points: Sequence[ModelPoint], chosen: str, context: int) -> str:
    """A sentence that ranks a model's cache among models with half to twice its parameters."""
    own = next((point for point in points if point.id == chosen), None)
    if own is None:
        return f"Caches of {len(points):,} models at {held(context)}"
    near = [p for p in points if own.n_parameters / 2 <= p.n_parameters <= 2 * own.n_parameters]
    larger = sum(p.cache_bytes > own.cache_bytes for p in near)
    return (
        f"{larger} of {len(near)} models of about its size keep more than {own.label}: {binary_bytes(own.cache_bytes)}"
    )


def token_costs() -> list[figures.TokenCost]:
    """Table 2 of the MQA paper, its columns for the decoder."""
    table = papers.table("mqa", 2)
    return [
        figures.TokenCost(model, table.value(model, "Greedy dec"), table.value(model, "Beam-4 dec"))
        for model, _ in table.rows
    ]


def table_one_values() -> dict[str, str]:
    """Ratios and differences of printed figures, by the placeholders of ``published_gqa.md``."""
    rows = {q.model: q for q in published()}
    mha, mqa, gqa = rows["MHA-XXL"], rows["MQA-XXL"], rows["GQA-8-XXL"]
    return {
        "mqa_speedup": significant(mha.seconds / mqa.seconds, 2),
        "gqa_speedup": significant(mha.seconds / gqa.seconds, 2),
        "mqa_loss": f"{mha.average - mqa.average:.1f}",
        "gqa_loss": f"{mha.average - gqa.average:.1f}",
    }
