"""Parts of the decode step page: its controls and its table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from attention.kernels.case import DTYPES
from attention.timing import step_layers, step_view
from attention.timing.step_cases import StepResult
from attention.units import binary_bytes, duration, significant, tokens
from ui import controls, frame, jobs, lesson, measured, model_weights, params
from ui.jobs import Seen
from viz import decode_step

CONTEXTS = [2**power for power in range(8, 17)]
BATCHES = [1, 2, 4, 8, 16, 32]
PARAMS = (
    params.choices("d_ctx", CONTEXTS, [1024, 32768]),
    params.choices("d_batch", BATCHES, [1]),
    params.choice("d_dtype", list(DTYPES), "bfloat16"),
    params.integer("d_width", 0, 0, 2**20, per_model=True),
)


def choose() -> tuple[tuple[step_view.Step, ...], str, Any]:
    """Draw the row of controls.

    Returns:
        (the steps, a sentence about the parts of the model that are not timed, the column for the button).

    Raises:
        ValueError: a size is not known or out of range.
    """
    columns = frame.bar(2.2, 2, 1.6, 1.2, 0.9, 1.1)
    with columns[0]:
        model = controls.model_picker()
    contexts = columns[1].multiselect("Context", CONTEXTS, key="d_ctx", format_func=tokens, help="Tokens held.")
    batches = columns[2].multiselect("Batch", BATCHES, key="d_batch", help="Sequences decoded together.")
    dtype = columns[3].selectbox("Data type", list(DTYPES), key="d_dtype", help="Of weights and cache.")
    with columns[4], frame.more():
        typed = st.number_input(
            "MLP width (0: as published)", 0, 2**20, key="d_width", help="Width of the MLP a token passes through."
        )
    spec = model_weights.if_known(model)
    width = step_layers.width_of(spec, model.config, int(typed))
    apart = [step_layers.timed_apart(spec, width)]
    if spec.parameters is None:
        apart.insert(0, "How many parameters this model has is not known: the weights are those of the timed layers.")
    return step_view.steps(spec, width, contexts, batches, dtype, "auto"), " ".join(filter(None, apart)), columns[5]


def finding(asked: Sequence[step_view.Step]) -> str:
    """The cache's share of a step with the first and with the last sharing, for the last context and batch chosen."""
    if not asked:
        return "What to look for"
    where = asked[-1].label.rpartition(" · ")[0]
    same = [step for step in asked if step.label.rpartition(" · ")[0] == where]
    first, last = (100 * step.cache_bytes / (step.weight_bytes + step.cache_bytes) for step in (same[0], same[-1]))
    names = same[0].variant, same[-1].variant
    return (
        f"At {where} the cache is {significant(first, 2)} % of what a step reads with {names[0]}, "
        f"{significant(last, 2)} % with {names[1]}"
    )


def draw(job: Seen | None, asked: tuple[step_view.Step, ...], apart: str) -> None:
    """Draw the figure and its table, with the timings so far.

    Args:
        apart: a sentence about the parts of the model that are not timed; may be empty.
    """
    rows = step_view.rows(asked, step_view.latest(jobs.parsed(job, StepResult.from_json)))
    if why := step_view.trouble(rows):
        measured.unsteady(why)
    with frame.numbers():
        for row in rows[-3:]:
            if row.result:
                state = "" if not row.result.unsteady else ", so far" if job and not job.done else ", not steady"
                st.metric(f"{row.label}, layers per token{state}", duration(row.result.token_s))
            else:
                st.metric(f"{row.label}, cache's share", f"{significant(100 * row.cache_share, 2)} %")
    frame.chart(
        decode_step.plot_steps(rows),
        key="d_figure",
        filename="headshare-decode-step",
        alt="Bytes of weights and cache that one decode step of the model reads, for each way to share heads.",
    )
    st.caption(" ".join((lesson.text("decode_step_figure"), *filter(None, (apart,)), *step_view.comparisons(rows))))
    with st.container(key="d_table"):
        table(rows)


def table(rows: Sequence[step_view.StepRow]) -> None:
    """Draw the table of all steps: the bytes of each, and its timing if there is one."""
    number = st.column_config.NumberColumn
    columns: dict[str, list[Any]] = {
        "Step": [row.label for row in rows],
        "Weights read": [binary_bytes(row.weight_bytes) for row in rows],
        "Cache read": [binary_bytes(row.cache_bytes) for row in rows],
        "Cache's share": [100 * row.cache_share for row in rows],
        "Weights timed": [binary_bytes(row.timed_bytes) if row.timed_bytes else None for row in rows],
        "Cache timed": [binary_bytes(row.timed_cache_bytes) if row.timed_cache_bytes else None for row in rows],
    }
    if any(row.result for row in rows):
        found = [row.result for row in rows]
        columns |= {
            "Layers per token (ms)": [r.token_s * 1e3 if r else None for r in found],
            "In plain PyTorch (ms)": [r.plain_s * 1e3 if r and r.plain_s is not None else None for r in found],
            "Tokens/s of layers": [r.tokens_per_s if r else None for r in found],
            "Prefill (s)": [r.prefill_s if r else None for r in found],
            "× floor": [r.times_floor if r else None for r in found],
            "Steady": ["" if r is None else "no" if r.unsteady else "yes" for r in found],
            "Error": [r.error if r else None for r in found],
            "Note": ["; ".join(part for part in _notes(r) if part) if r else "" for r in found],
        }
    frame.table(
        columns,
        width="stretch",
        column_config={
            "Cache's share": number(format="%.1f %%"),
            "Weights timed": st.column_config.TextColumn(
                help="Of the layers, one of each kind timed and multiplied; the output head is not timed."
            ),
            "Cache timed": st.column_config.TextColumn(
                help="What the timed layers read of the cache; a cache that several layers read counts for each."
            ),
            "In plain PyTorch (ms)": number(
                format="%.1f", help="The same layers with PyTorch's matrix products alone, in the same rounds."
            ),
            "Layers per token (ms)": number(format="%.1f"),
            "Tokens/s of layers": number(format="%.2f"),
            "Prefill (s)": number(format="%.2f", help="All tokens of the context through all layers."),
            "× floor": number(format="%.2f"),
            "Error": number(format="%.1e", help="Of the attention, against float64."),
        },
    )


def _notes(result: StepResult) -> tuple[str, ...]:
    prefill = f"prefill: {result.prefill_unsteady}" if result.prefill_unsteady else ""
    return (result.unsteady, prefill, result.note)
