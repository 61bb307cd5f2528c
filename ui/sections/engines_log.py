"""Explain my log: the visitor pastes an engine's start-up lines, and each figure in them is explained.

The callback reads the text once and drops it. Only figures, words from fixed lists and the recognised model stay in the
session. Nothing is written into the address or stored.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import streamlit as st

from attention import foreign_text
from attention.engines.explain import Known, explain, model_of
from attention.engines.log import Log, read
from attention.engines.report import Finding, Report
from attention.engines.rules import NAMES, rule
from ui import frame, lesson
from ui.controls import ChosenModel

MAX_LOG = 1_000_000
"""The most bytes of a pasted log."""
EXAMPLE = (
    "INFO vLLM API server version 0.20.0\nmodel='google/gemma-4-31B-it'\nAvailable KV cache memory: 24.54 GiB\n"
    "GPU KV cache size: 26,800 tokens\n"
)
"""The lines that issue 61 of hf-mem quotes."""
_READ = "_eng_log"
_VERDICTS = {
    "reproduced": "reproduced to the digit",
    "split": "split into parts",
    "unexplained": "cannot be explained",
    "given": "stated",
}


class _Chosen(Protocol):
    @property
    def conv_kernel(self) -> int | None: ...


def _take(text: str | None = None) -> None:
    """Callback: read the pasted text (or `text`), keep its figures, drop the text."""
    pasted = str(st.session_state.get("eng_log", "")) if text is None else text
    st.session_state["eng_log"] = ""
    raw = pasted.encode("utf-8", errors="replace")
    if len(raw) > MAX_LOG:
        st.session_state[_READ] = (
            f"A log may have at most {MAX_LOG // 10**6} MB here, and this one has {len(raw):,} bytes; "
            "python -m attention log FILE takes ten times as much."
        )
        return
    if not raw.strip():
        st.session_state[_READ] = "Paste the start-up lines of an engine above."
        return
    try:
        log = read(raw)
    except ValueError as error:
        st.session_state[_READ] = f"{error}."
        return
    try:
        known: Known | None = model_of(log)
    except ValueError:
        known = None
    st.session_state[_READ] = (replace(log, names=()), known)


def explanation(model: ChosenModel, chosen: _Chosen) -> None:
    """Draw the text field and the explanation of the last log.

    Raises:
        ValueError: the pasted text is no log of a known engine, or has no figure in it.
    """
    st.subheader("Explain my log", anchor=False)
    st.caption(lesson.text("engines_log"))
    # no max_chars: with it the browser cuts a longer text and says nothing
    st.text_area(
        "Start-up lines of vLLM, SGLang, llama.cpp or TensorRT-LLM",
        key="eng_log",
        height=140,
        placeholder="GPU KV cache size:",
    )
    with st.container(horizontal=True, key="eng_log_buttons", vertical_alignment="center", gap="small"):
        st.button("Explain", key="eng_log_explain", type="primary", on_click=_take)
        st.button("Try a log of Gemma 4", key="eng_log_try", type="tertiary", on_click=_take, args=(EXAMPLE,))
        above = st.checkbox("Hold it against the model above", key="eng_log_above")
    found = st.session_state.get(_READ)
    if found is None:
        return
    if isinstance(found, str):
        raise ValueError(found)
    log, known = found
    own = Known(model.spec, chosen.conv_kernel)
    report = explain(log, own if above or known is None else known)
    if known is None and not above:
        st.caption("The log names no model that is known here, so it is held against the one above.")
    _report(report, log)


def _report(report: Report, log: Log) -> None:
    version = f" {report.version}" if report.version else ""
    said = ", ".join(f"{name} {_shown(value)}" for name, value in report.settings.items() if value is not None)
    model = foreign_text.markdown(report.model)
    st.markdown(f"**{NAMES[report.engine]}{version}**, {model}  \n{foreign_text.markdown(said)}")
    for finding in report.findings:
        _finding(finding)
    if report.changes:
        st.markdown("**For more tokens in the same memory**")
        frame.table(
            {
                "gain": [change.after - change.before for change in report.changes],
                "change": [change.what for change in report.changes],
                "tokens now": [change.before for change in report.changes],
                "tokens then": [change.after for change in report.changes],
            },
            key="eng_changes",
            column_config={
                name: st.column_config.NumberColumn(format="localized")
                for name in ("tokens now", "tokens then", "gain")
            },
        )
    for note in report.notes:
        st.caption(foreign_text.markdown(f"{note[:1].upper()}{note[1:]}."))
    used = dict.fromkeys(name for finding in report.findings for name in finding.rules)
    rows = [rule(report.engine, name) for name in used]
    if rows:
        words = [
            f"*{row.name}* ({foreign_text.markdown(row.version)}; {foreign_text.markdown(row.source)})" for row in rows
        ]
        st.caption("Rules: " + ", ".join(words) + ".")


def _finding(finding: Finding) -> None:
    with st.container(border=True):
        st.markdown(foreign_text.code(finding.line, 400))
        st.markdown(f"**{_VERDICTS[finding.verdict]}**: {foreign_text.markdown(finding.says)}")
        lines = []
        for part in finding.parts:
            unit = "" if part.name.startswith("cells") else " bytes"
            why = f": {foreign_text.markdown(part.why)}" if part.why else ""
            lines.append(f"- {part.n_bytes:,}{unit} **{part.name}**{why}")
        if lines:
            st.markdown("\n".join(lines))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}" if isinstance(value, int) else str(value)
