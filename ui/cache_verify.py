"""Ask the model's own code what it caches, and show it beside what was computed."""

from __future__ import annotations

from typing import Any

import streamlit as st

from attention.units import binary_bytes, counted, duration, parameters
from attention.worker import Job
from ui import downloads, frame, jobs, lesson
from ui.controls import ChosenModel, Load
from ui.params import PASTED, TYPED

KEY = "kv_verify"


def verify(model: ChosenModel, load: Load) -> None:
    """A button that builds the model on meta tensors in the worker, and the answer layer by layer."""
    st.subheader("Verify with the model's own code", anchor=False)
    lesson.show("kv_verify")
    payload, why_not = _payload(model, load)
    with st.container(width=220):
        jobs.button(KEY, "verify", payload, label="Verify", help="Runs in the worker; a few seconds for most models.")
    jobs.panel(KEY, _draw, idle=why_not or "")


def _payload(model: ChosenModel, load: Load) -> tuple[dict[str, Any] | None, str | None]:
    context = max(2, load.context)
    if model.key == TYPED or model.spec.model_type is None:
        return None, "Typed sizes have no code to ask: pick a published model, or paste its config.json."
    if model.key == PASTED:
        from attention import config_json

        return {
            "config": config_json.load_config(model.config_text.encode()),
            "name": "pasted config.json",
            "context": context,
        }, None
    if model.row is None or model.row.config is None:
        return None, "The catalogue holds no configuration to build this model from."
    return {"model": model.key, "context": context}, None


def _draw(job: Job | None) -> None:
    found = job.results[-1] if job is not None and job.results else None
    if not found or "layers" not in found:
        return
    exact = not found["unexplained_bytes"]
    same = found["computed_bytes"] == found["allocated_bytes"]
    verdict = "0 bytes apart" if same else "every difference explained" if exact else "not explained"
    with st.container(horizontal=True, gap="medium"):
        _metric("Computed", binary_bytes(found["computed_bytes"]), f"{found['computed_bytes']:,} bytes")
        _metric(
            "In the model's own cache", binary_bytes(found["allocated_bytes"]), f"{found['allocated_bytes']:,} bytes"
        )
        _metric("Verdict", "exact" if exact else f"{found['unexplained_bytes']:,} bytes", verdict)
        _metric("Parameters, counted", parameters(found["n_parameters"]), f"in {duration(found['seconds'])}")
    st.caption(
        f"{found['model']} ({found['model_type']}) at {counted(found['context'], 'token')}, batch {found['batch']}, "
        f"{found['kv_dtype']}."
    )
    layers = found["layers"]
    frame.table(
        {
            "layer": [row["index"] for row in layers],
            "kind": [row["kind"] for row in layers],
            "computed, bytes": [row["computed_bytes"] for row in layers],
            "own code, bytes": [row["allocated_bytes"] for row in layers],
            "difference": [row["allocated_bytes"] - row["computed_bytes"] for row in layers],
            "why": [row["explanation"] or "" for row in layers],
        },
        height=220,
        key=f"{KEY}_table",
        column_config={
            name: st.column_config.NumberColumn(format="localized")
            for name in ("computed, bytes", "own code, bytes", "difference")
        },
    )
    downloads.buttons(layers, f"{KEY}_layers", **{key: found[key] for key in ("model", "context", "kv_dtype")})


def _metric(label: str, value: str, beside: str) -> None:
    st.metric(label, value, beside, delta_color="off", delta_arrow="off", width="content")
