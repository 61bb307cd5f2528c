"""The loss that each cache format costs the real model: the choice of a pair, the figure and the table."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attention import foreign_text
from attention.llm import format_costs, place, recorded
from attention.llm.format_costs import Costs
from attention.llm.plan import CACHE_DTYPES
from attention.units import binary_bytes, counted, duration, ratio
from ui import frame, lesson, params
from ui.jobs import Seen
from viz import real_formats as figures

KEY = "real_formats"
CHOICES = [name for name in CACHE_DTYPES if name not in ("fp16", "fp32")]
PARAMS = (
    params.choice("real_k", CHOICES, "q4_0"),
    params.choice("real_v", CHOICES, "q8_0"),
    params.token("real_formats_kept"),
)


def payload(text: str | None) -> dict[str, Any] | None:
    """The payload of a run; None without a text or a model."""
    if text is None or place.find() is None:
        return None
    state = st.session_state
    return {"text": text, "k_dtype": state["real_k"], "v_dtype": state["real_v"], "device": "cpu"}


def draw(job: Seen | None) -> None:
    """Draw the figure and the table: of the reader's text as soon as it has results, of held-out text before."""
    costs = None if job is None else format_costs.of_results(job.results)
    if job is None or costs is None or not costs.rows:
        costs, about = recorded.format_costs(), recorded.load()["formats"]
        origin = f"Recorded over {counted(about['n_texts'], 'held-out text')} of {about['length']} tokens"
    else:
        text = foreign_text.markdown(foreign_text.seen(str(job.payload["text"]).strip(), 120))
        origin = f"{'This run' if job.done else 'Live on this server'}: {costs.tokens} tokens, *{text}*"
    st.markdown(f"{origin}. {foreign_text.markdown(format_costs.finding(costs))}")
    frame.chart(
        figures.plot_costs(costs),
        key="real_formats_chart",
        filename="loss-by-cache-format",
        alt="Loss against the bytes a token adds to the cache, by format. " + format_costs.finding(costs),
    )
    frame.table(_table(costs), key="real_formats_table")
    if costs.timed_context:
        words = (
            f"Steps timed at {costs.timed_context:,} tokens held, the text's own rows again and again: a step "
            "multiplies the weights, rounds and stores its own row, and reads the cache as it lies."
        )
        if costs.others > 0.1:
            words += f" Other processes took {100 * costs.others:.0f} % of this machine meanwhile: times say little."
        st.caption(words)


def _table(costs: Costs) -> dict[str, list[Any]]:
    rows = costs.rows
    least = next((row.bytes_per_token for row in rows if (row.k, row.v) == ("bf16", "bf16")), None)
    return {
        "Keys": [row.k for row in rows],
        "Values": [row.v for row in rows],
        "Bytes a token": [row.bytes_per_token for row in rows],
        "Loss, nats": [round(row.loss, 4) for row in rows],
        "more than fp32": [f"{row.loss_more:+.4f}" for row in rows],
        "Error of the logits, %": [round(100 * row.logit_error, 2) for row in rows],
        "Time per step": [duration(row.step_s) if row.step_s else None for row in rows],
        "its floor": [duration(row.floor_s) if row.floor_s else None for row in rows],
        "Same next token, %": [round(100 * row.same_word, 1) for row in rows],
        "Scratch, step": [binary_bytes(row.scratch_step) for row in rows],
        "Scratch, reading": [binary_bytes(row.scratch_reading) for row in rows],
        "Bytes beside bf16": [ratio(row.bytes_per_token / least) if least else None for row in rows],
    }


def lessons() -> None:
    """Draw the text about the formats and the record."""
    lesson.show("real_formats")
