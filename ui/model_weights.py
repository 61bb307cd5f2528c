"""The chosen model with its number of parameters: known, counted in the model's own code, or stated by the visitor.

A figure that needs weights is shown only when their number is known; the number is never guessed.
"""

from __future__ import annotations

import streamlit as st

from attention import foreign_text
from attention.configs.reader import with_parameters
from attention.oracle.built import supported
from attention.parameters import Parameters
from attention.spec import ModelSpec
from attention.units import parameters
from attention.worker.client import Job, State
from ui import frame, jobs, state
from ui.controls import ChosenModel
from ui.params import PARAMETERS, PASTED

KEY = "count_parameters"
_PICK = "parameters_pick"


def known(model: ChosenModel) -> ModelSpec:
    """The model's layers with its parameters.

    Raises:
        ValueError: the number is still being counted or must be stated; the message says which.
    """
    found = if_known(model)
    if found.parameters is not None:
        return found
    with frame.below_bar():
        _ask()
    job = jobs.current(KEY)
    if model.key == PASTED and job is not None and not job.done:
        raise ValueError("The parameters of this model are being counted; figures follow.")
    raise ValueError("State the parameters above: how many there are is not known here, and figures depend on it.")


def if_known(model: ChosenModel) -> ModelSpec:
    """The model's layers with its parameters if they are known; without them otherwise, and nothing is asked.

    If no rule counts the parameters of a pasted configuration, a job in the worker counts them meanwhile.
    """
    spec = model.spec
    if (stated := float(st.session_state[PARAMETERS.key])) and (model.key == PASTED or spec.parameters is None):
        with frame.below_bar():
            _ask()
        return spec.with_parameters(round(stated * 1e9))
    if model.key == PASTED:
        if spec.parameters is None:
            spec = _counted(model)
        if spec.parameters is not None:
            with frame.below_bar():
                _say(spec.parameters)
    return spec


def _counted(model: ChosenModel) -> ModelSpec:
    """The pasted model with the parameters that its own code counts, once the worker has built it."""
    spec, config = model.spec, dict(model.config or {})
    if (reason := supported(config)) is not None:
        with frame.below_bar():
            st.caption(f"The parameters cannot be counted: {foreign_text.markdown(reason)}.")
        return spec
    job = jobs.current(KEY)
    if job is None or job.payload.get("config") != config:
        jobs.start(KEY, "parameters", {"config": config})
        job = jobs.current(KEY)
    if job is not None and job.state is State.DONE and job.summary:
        return with_parameters(spec, Parameters.from_json(job.summary))
    with frame.below_bar():
        if job is not None and job.done:
            st.caption(
                f"The parameters could not be counted: {foreign_text.code(job.error or 'the run was stopped', 300)}"
            )
        else:
            jobs.panel(KEY, _nothing)
    return spec


def _nothing(job: Job | None) -> None:
    """Draw nothing: the panel's own line of progress or refusal is enough."""


def _say(found: Parameters) -> None:
    active = f", {parameters(found.active)} active" if found.routed else ""
    st.caption(f"{parameters(found.total)} parameters{active}, from {found.source}.")
    if found.assumed:
        left_out = foreign_text.code(", ".join(found.assumed), 300)
        st.caption(
            f"The file leaves out sizes, and those of its class were taken: {left_out}. If they are not so, state:"
        )
        _ask()


def _ask() -> None:
    """Draw the field for the number of parameters; it is empty until the visitor fills it."""
    stated = st.session_state[PARAMETERS.key]
    wanted = float(stated) or None
    if state.moved() or st.session_state.get(_PICK) != wanted:
        st.session_state[_PICK] = wanted
    st.number_input(
        "Parameters, 10⁹", 0.001, 100_000.0, None, key=_PICK, format="%.3f", on_change=_adopt, placeholder="not known",
        help="All of them, embeddings included; the weights' size and traffic depend on it.",
    )  # fmt: skip


def _adopt() -> None:
    st.session_state[PARAMETERS.key] = float(st.session_state.get(_PICK) or 0.0)
