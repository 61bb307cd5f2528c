"""Parts of the page The code: checks and timings in the worker, and the numbers of a configuration."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import streamlit as st

from attention.lessons.code import Sizes, shapes, sizes_at
from attention.spec import ModelSpec
from attention.units import binary_bytes
from attention.worker.client import Limits
from ui import frame, jobs, lesson, measured
from ui.jobs import Seen
from viz import code as trap_figure

STEP_LESSONS = {
    "MHA": "code_step_mha",
    "MHA → MQA": "code_step_mqa",
    "MQA → GQA": "code_step_gqa",
}
TRAP_IMPLEMENTATIONS = ("repeat_sdpa", "enable_gqa", "folded_matmul")
TRAP_BYTES = 2**28
"""The most bytes of the copied keys and values of all query heads, in float32."""


def heads_of(spec: ModelSpec) -> tuple[int, int]:
    """(query heads, K/V heads) of the model's main attention layer.

    Raises:
        ValueError: the model has no attention to show.
    """
    if not spec.n_heads:
        raise ValueError(f"{spec.name} has no attention layer: choose another model")
    return spec.n_heads, spec.n_kv_heads


def sizes_of(spec: ModelSpec, n_kv_heads: int, batch: int, context: int) -> Sizes:
    """The configuration that the lesson shows. A model that states no hidden size gets n_heads * head_dim."""
    hidden = spec.hidden_size or spec.n_heads * spec.head_dim
    return Sizes(hidden, spec.n_heads, n_kv_heads, spec.head_dim, batch, context)


def payload(sizes: Sizes) -> dict[str, Any]:
    return asdict(sizes)


def lesson_values(sizes: Sizes) -> dict[str, str]:
    """The numbers in the step's text, by their placeholders."""
    return {
        "n_heads": f"{sizes.n_heads:,}",
        "n_kv_heads": f"{sizes.n_kv_heads:,}",
        "group_size": f"{sizes.group_size:,}",
        "head_dim": f"{sizes.head_dim:,}",
        "mha_elements": f"{2 * sizes.n_heads * sizes.head_dim:,}",
        "gqa_elements": f"{2 * sizes.n_kv_heads * sizes.head_dim:,}",
        "mqa_elements": f"{2 * sizes.head_dim:,}",
    }


def shape_rows(sizes: Sizes, step: str) -> list[dict[str, str]]:
    """Rows of the table of tensor shapes, for the class that the step shows."""
    return [
        {
            "Tensor": shape.name,
            "Shape": "[" + ", ".join(f"{n:,}" for n in shape.sizes) + "]",
            "What it is": shape.meaning,
            "Axes": shape.names,
        }
        for shape in shapes(sizes_at(step, sizes))
    ]


def draw_check(job: Seen | None) -> None:
    """Draw the results of the check: counts as a table, equalities as lines."""
    if job is None:
        return
    counted = [row for row in job.results if row["what"] == "counts"]
    if counted:
        frame.records(
            [
                {
                    "Class": row["class"],
                    "K/V heads": row["n_kv_heads"],
                    "Parameters": f"{row['n_parameters']:,}",
                    "Cache (bf16)": binary_bytes(row["cache_bytes"]),
                    "Output": str(row["output_shape"]),
                }
                for row in counted
            ],
            width="stretch",
        )
    for row in job.results:
        if row["what"] == "equality":
            word, color = ("equal", "green") if row["equal"] else ("not equal", "red")
            st.markdown(
                f":{color}[**{word}**] · {row['name']}: largest difference {row['largest_difference']:.1g} "
                f"(float32, {row['tolerance']:.0e} accepted)"
            )


def trap_context(sizes: Sizes) -> int:
    """The chosen context, halved until the copied keys and values fit into TRAP_BYTES."""
    context = sizes.context
    while context > 1 and 8 * sizes.n_heads * sizes.head_dim * context > TRAP_BYTES:
        context //= 2
    return context


def trap_cases(sizes: Sizes) -> list[dict[str, Any]]:
    """Cases of the bench job: multi-head attention once, then the chosen sharing by three implementations."""
    shared = {
        "n_heads": sizes.n_heads,
        "head_dim": sizes.head_dim,
        "context": trap_context(sizes),
        "batch": 1,
        "dtype": "float32",
        "device": "auto",
    }
    cases = [{**shared, "implementation": "folded_matmul", "n_kv_heads": sizes.n_heads}]
    if sizes.group_size > 1:
        cases += [{**shared, "implementation": name, "n_kv_heads": sizes.n_kv_heads} for name in TRAP_IMPLEMENTATIONS]
    return cases


def trap(sizes: Sizes) -> None:
    """Draw the lesson on copying, with its timing on this host."""
    text, figure = st.columns([1, 1], gap="large")
    with text:
        lesson.show("code_trap", **lesson_values(sizes))
    with figure:
        jobs.button(
            "code_trap",
            "bench",
            {"cases": trap_cases(sizes), "seconds_per_case": 0.4},
            label="Time it here",
            limits=Limits(seconds=60),
        )
        jobs.panel(
            "code_trap",
            _draw_trap,
            idle="Times one decode step of one layer on this server, float32.",
            address="code_kept",
        )


def _draw_trap(job: Seen | None) -> None:
    timed = [r for r in jobs.timings(job) if r.median_s is not None]
    if not timed:
        return
    measured.notice(timed)
    frame.chart(
        trap_figure.plot_trap(timed),
        key="code_trap_chart",
        filename="repeat-interleave-trap",
        alt=trap_figure.describe_trap(timed),
        height=300,
    )
    if said := trap_figure.compare_trap(timed):
        st.caption(f"Beside multi-head attention, round by round. {said}.")
