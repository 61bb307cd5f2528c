"""Ask the model's own code what it caches, and show the answer beside the computed bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from attention import foreign_text
from attention.memory.load import Load
from attention.units import binary_bytes, counted, duration, parameters
from ui import downloads, frame, jobs, lesson
from ui.controls import ChosenModel
from ui.jobs import Seen
from ui.params import TYPED

KEY = "kv_verify"


def verify(model: ChosenModel, load: Load) -> None:
    """Draw a button that has the worker build the model on meta tensors, and the answer layer by layer."""
    st.subheader("Verify with the model's own code", anchor=False)
    lesson.show("kv_verify")
    payload, why_not = _payload(model, load)
    with st.container(width=220):
        jobs.button(KEY, "verify", payload, label="Verify", help="Runs in the worker; a few seconds for most models.")
    jobs.panel(KEY, _draw, payload, idle=why_not or "", address="k_kept")


def _payload(model: ChosenModel, load: Load) -> tuple[dict[str, Any] | None, str | None]:
    context = max(2, load.context)
    if model.key == TYPED or model.spec.model_type is None:
        return None, "Typed sizes have no code to ask: pick a published model, or paste its config.json."
    if model.row is not None and model.config is not None:
        return {"model": model.key, "context": context}, None
    if model.config is not None:
        return {"config": dict(model.config), "name": model.label, "context": context}, None
    return None, "The catalogue holds no configuration to build this model from."


def _about(payload: Mapping[str, Any] | None) -> tuple[Any, Any]:
    """(model, configuration) that a payload asks about."""
    return (None, None) if payload is None else (payload.get("model"), payload.get("config"))


def _draw(job: Seen | None, payload: Mapping[str, Any] | None) -> None:
    if job is not None and _about(job.payload) != _about(payload):
        if payload is not None:
            st.caption("The last answer was about another model; press Verify for this one.")
        return
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
        f"{foreign_text.markdown(found['model'])} ({foreign_text.markdown(found['model_type'])}) at "
        f"{counted(found['context'], 'token')}, batch {found['batch']}, {found['kv_dtype']}."
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
