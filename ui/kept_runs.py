"""Timing runs on a page: the one that has just ended, the kept runs that the address names, uploads, downloads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import streamlit as st

from attention import foreign_text
from attention.errors import StoreError
from attention.kept.store import store
from attention.settings import load
from attention.timing import runs
from attention.timing.runs import Run
from attention.worker.client import Job
from ui import jobs, state
from ui.params import Param

KEY = "run"
"""Address key: tokens of the runs in view. The first run is shown in full, all of them in the comparison."""
MOST = 6

PARAM = Param(KEY, [], lambda token: _checked(token), "the token of a kept run", many=True)


class _Ended(NamedTuple):
    """A job that has ended, with its results as a run; `problem` says why the run could not be kept."""

    job: Job
    run: Run
    problem: str | None


@dataclass
class SessionRuns:
    """The ended jobs of this session by their key, and the number of runs that it has kept."""

    ended: dict[str, _Ended] = field(default_factory=dict)
    saved: int = 0


@st.cache_resource(scope="session", show_spinner=False)
def session_runs() -> SessionRuns:
    return SessionRuns()


def _checked(token: str) -> str:
    from attention.kept.store import TOKEN

    if not TOKEN.fullmatch(token):
        raise ValueError("no token of a run")
    return token


def keep_finished(key: str) -> None:
    """If the job under `key` has ended with results, keep them and write their token into the address, once per job."""
    job, kept = jobs.current(key), session_runs()
    last = kept.ended.get(key)
    if job is None or not job.done or not job.results or (last is not None and last.job is job):
        return
    run = of_job(job)
    try:
        saved = _save(run)
    except StoreError as problem:
        kept.ended[key] = _Ended(job, run, str(problem))
        state.put(**{KEY: []})
    else:
        kept.ended[key] = _Ended(job, saved, None)
        state.put(**{KEY: [saved.id]})


def of_job(job: Job) -> Run:
    """The results of a job as a run; also those of a job that ended early."""
    summary = job.summary or {}
    return runs.new(
        jobs.timings(job),
        host=summary.get("host"),
        calibration=summary.get("calibration"),
    )


def _save(run: Run) -> Run:
    kept = session_runs()
    most = load().session_saves
    if kept.saved >= most:
        raise StoreError(f"this session has kept {most} runs already; download this one as JSON to keep it")
    saved = store().save(run)
    kept.saved += 1
    return saved


def shown(key: str) -> tuple[list[Run], list[str]]:
    """(the runs to draw, the most important first; the problems with the others, in words).

    Results of a job that could not be kept are drawn too. If there is no other run, a recorded run that comes with the
    program is drawn.
    """
    found: list[Run] = []
    problems: list[str] = []
    last = session_runs().ended.get(key)
    tokens = list(st.session_state[KEY])[:MOST]
    if last is not None and last.problem and not tokens:
        found.append(last.run)
        problems.append(last.problem)
    for token in tokens:
        try:
            found.append(_load(token))
        except StoreError as problem:
            problems.append(str(problem))
    return found or list(runs.recorded()[:1]), problems


@st.cache_data(max_entries=64, ttl=3600, show_spinner=False)
def _load(token: str) -> Run:
    # a kept run never changes; an error is not cached
    return store().load(token)


def take_upload(key: str) -> None:
    """Callback of the uploader `key`: check each file, keep its run, and show it beside the run in view."""
    for file in st.session_state.get(key) or []:
        try:
            run = _save(runs.uploaded(file.getvalue()))
        except ValueError as problem:
            st.session_state["_upload_problem"] = f"{file.name[:60]}: {problem}"
            return
        tokens = [*(st.session_state[KEY] or [r.id for r in runs.recorded()[:1]]), run.id]
        state.put(**{KEY: tokens[-MOST:]})
    st.session_state.pop("_upload_problem", None)


def add(key: str) -> None:
    """Callback of the text field `key`: the visitor typed a link or token; show this run beside the run in view."""
    typed = str(st.session_state.get(key, "")).strip()
    token = typed.rpartition("run=")[2].partition("&")[0]
    try:
        run = _load(_checked(token)) if typed else None
    except ValueError as problem:
        st.session_state["_upload_problem"] = str(problem)
        return
    if run is not None:
        first = st.session_state[KEY] or [r.id for r in runs.recorded()[:1]]
        state.put(**{KEY: list(dict.fromkeys([*first, run.id]))[-MOST:]})
    st.session_state.pop("_upload_problem", None)


def only(token: str) -> None:
    """Callback: show one run alone."""
    state.put(**{KEY: [token]})


def upload_problem() -> str | None:
    """The problem with the last upload or typed token, in words; None if there was none."""
    return st.session_state.get("_upload_problem")


def downloads(run: Run) -> None:
    """Draw buttons that download a run as CSV and JSON, with its machine."""
    name = f"headshare-{run.id or 'run'}"
    with st.container(horizontal=True):
        st.download_button("CSV", run.to_csv(), f"{name}.csv", "text/csv", on_click="ignore", key=f"csv_{run.id}")
        st.download_button(
            "JSON", run.dumps(), f"{name}.json", "application/json", on_click="ignore", key=f"json_{run.id}"
        )


def provenance(run: Run) -> str:
    """The origin of a run in one line of Markdown; text that may come from an upload is shown as code."""
    how = {
        "recorded": "Recorded run, shipped with Headshare",
        "server": "Measured on this server",
        "command line": "Measured by the command line",
        "uploaded": "Uploaded by a visitor, not checked",
    }[run.source]
    torch = run.versions.get("torch", "unknown")
    when = run.created[:16].replace("T", " ")
    return f"{how} · {foreign_text.code(run.label, 80)} · torch {foreign_text.code(torch, 30)} · {when} UTC"
