"""A long job seen from a page: start it, watch it, stop it.

A job belongs to the visitor's session: it goes on while they look at other pages, and ends with their tab. On a page::

    jobs.button("timings", "bench", payload, label="Run timings")   # Run, or Stop while it runs
    jobs.panel("timings", draw, shape)                  # draw(job or None, shape), again while results arrive

`draw` runs in a fragment twice a second while the job lives; it gets the :class:`attention.worker.job.Job` with its
`results` so far, or None before the first run. With ``address="KEY"``, a key of the page made with ``params.token``, a
job that has ended is kept, its token stands in the address, and whoever opens that sees the same
(:class:`attention.kept.job.KeptJob`, which has a job's fields).
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import streamlit as st

from attention import foreign_text, settings
from attention.errors import SettingError, StoreError
from attention.kept.job import KeptJob, of_job
from attention.kernels.case import Result
from attention.timing import views
from attention.units import duration
from attention.worker import client as worker
from attention.worker.client import Job, Limits, State
from ui import state
from ui.frame import guard, turn
from ui.server import client

_log = logging.getLogger("headshare")

REFRESH_S = 0.5

Draw = Callable[..., None]
"""draw(job or None, *args): see :func:`panel`."""
Seen = Job | KeptJob
"""What a panel draws: a job of this session, or one that was kept."""
T = TypeVar("T")


class Kept(NamedTuple):
    """A job of this session that has ended, and what became of it: kept under a token, or not, and why."""

    job: Job
    seen: Seen
    token: str
    problem: str = ""


class SessionJobs:
    """One session's jobs, by the key of the place that shows them."""

    def __init__(self) -> None:
        self.owner = uuid.uuid4().hex
        self.jobs: dict[str, Job] = {}
        self.refusals: dict[str, str] = {}
        self.parsed: WeakKeyDictionary[Seen, list[Any]] = WeakKeyDictionary()
        self.kept: dict[str, Kept] = {}
        self.saved = 0

    def close(self) -> None:
        """The tab has gone: end what it started."""
        for job in self.jobs.values():
            job.stop()


@st.cache_resource(scope="session", on_release=SessionJobs.close, show_spinner=False)
def _session_jobs() -> SessionJobs:
    return SessionJobs()


def current(key: str) -> Job | None:
    """The last job started under `key` in this session, running or not."""
    return _session_jobs().jobs.get(key)


def parsed(job: Seen | None, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    """The job's results so far, each read once, however often it is drawn.

    Args:
        parse: makes an object of what the job emitted; always the same for a kind of job.
    """
    if job is None:
        return []
    known: list[T] = _session_jobs().parsed.setdefault(job, [])
    # a list that grows at its end while this goes on
    known.extend(parse(values) for values in job.results[len(known) : len(job.results)])
    return known


def timings(job: Seen | None) -> tuple[Result, ...]:
    """Of a job of kind "bench": the latest result of each case."""
    return views.latest(parsed(job, Result.from_json))


def start(key: str, kind: str, payload: dict[str, Any], limits: Limits | None = None) -> None:
    """Start a job in place of the last one under `key`; a refusal is shown by the panel."""
    session = _session_jobs()
    session.refusals.pop(key, None)
    if (last := session.jobs.get(key)) is not None:
        last.stop()
    try:
        session.jobs[key] = worker.submit(kind, payload, owner=session.owner, client=client.current(), limits=limits)
    except SettingError:
        _log.exception("a setting of this server is wrong")
        session.refusals[key] = "this server is not set up right, and its log says how"
    except ValueError as refusal:
        session.refusals[key] = str(refusal)


def stop(key: str) -> None:
    """End the job under `key`, if there is one; what it gave so far stays."""
    if (job := current(key)) is not None:
        job.stop()


def button(
    key: str,
    kind: str,
    payload: dict[str, Any] | None,
    *,
    label: str = "Run",
    help: str | None = None,
    limits: Limits | None = None,
    prepare: str = "",
) -> None:
    """Draw Run, or Stop while the job lives. Belongs into the page itself, not into a fragment.

    Args:
        key: names the job in this session, and the buttons (``KEY_run``, ``KEY_stop``).
        kind, payload, limits: see :func:`attention.worker.client.submit`; without a payload there is nothing to run.
        label: of the Run button.
        help: its tooltip.
        prepare: a kind of job that makes ready what this one needs: the worker does it once, in its turn, beforehand.
    """
    job = current(key)
    if job is None or job.done:
        worker.warm()
        if prepare:
            worker.prepare(prepare)
        st.button(
            label,
            key=f"{key}_run",
            type="primary",
            width="stretch",
            help=help,
            disabled=payload is None,
            on_click=start,
            args=(key, kind, payload, limits),
        )
    else:
        stopping = job.stop_asked.is_set()
        st.button(
            "Stopping …" if stopping else "Stop",
            key=f"{key}_stop",
            width="stretch",
            disabled=stopping,
            on_click=stop,
            args=(key,),
        )


def panel(
    key: str, draw: Draw, *args: Any, idle: str = "", address: str | None = None, refresh_s: float = REFRESH_S
) -> None:
    """Show the job under `key`: its place or progress, its results through `draw`, and how it ended.

    Args:
        draw: draws the results; called with the job, None before the first run, and with `args`. While the job lives
            it runs again without the page around it: whatever it needs of the page's controls is handed to it in
            `args`, for the state of a control that is not drawn meanwhile is gone.
        idle: what to say before the first run.
        address: key of the page's address that names the job in view once it has ended.
        refresh_s: seconds between two drawings while the job lives.
    """
    live = (job := current(key)) is not None and not job.done
    seen: Seen | None = job
    if address is not None and not live:
        seen, problem = in_view(key, address)
        if problem:
            st.warning(_sentence(problem))

    @st.fragment(run_every=refresh_s if live else None)
    def show() -> None:
        with turn():
            job: Seen | None = current(key) if live else seen
            if live and (job is None or job.done):
                # Stop stands outside this fragment and turns back into Run
                st.rerun()
            with st.container(key=f"{key}_status"):
                _status(key, job, idle)
            with guard():
                draw(job, *args)

    show()


def in_view(key: str, address: str) -> tuple[Seen | None, str]:
    """The job that the address names, after one that has just ended was kept there; and what was wrong, in words."""
    from attention.kept.store import store

    session = _session_jobs()
    job, kept = session.jobs.get(key), session.kept.get(key)
    if job is not None and not job.done:
        return None, ""
    if job is not None and (kept is None or kept.job is not job):
        kept = session.kept[key] = _keep(session, job)
        state.put(**{address: kept.token})
    token = st.session_state[address]
    if kept is not None and kept.job is job and kept.token == token:
        return kept.seen, kept.problem
    if not token:
        return None, ""
    try:
        return store().load_job(token), ""
    except StoreError as problem:
        return None, str(problem)


def _keep(session: SessionJobs, job: Job) -> Kept:
    from attention.kept.store import store

    if not job.results and not job.summary:
        return Kept(job, job, "")
    seen = of_job(job)
    most = settings.load().session_saves
    if session.saved >= most:
        return Kept(job, seen, "", f"this session has kept {most} runs already, so no link will show this one")
    try:
        token = store().save_job(seen)
    except StoreError as problem:
        return Kept(job, seen, "", str(problem))
    session.saved += 1
    return Kept(job, seen, token)


def _status(key: str, job: Seen | None, idle: str) -> None:
    if refusal := _session_jobs().refusals.get(key):
        st.warning(_sentence(refusal))
    if job is None:
        if idle and not refusal:
            st.caption(idle)
        return
    if isinstance(job, KeptJob):
        when = job.created[:16].replace("T", " ")
        machine = f"{foreign_text.code(job.label, 80)} · torch {foreign_text.code(job.torch, 30)} · {when} UTC"
        ended = {State.DONE: "Done in", State.STOPPED: "Stopped after"}.get(job.state, "Failed after")
        st.caption(f"{ended} {duration(job.elapsed_s)}. Measured on {machine}")
        if job.state is State.FAILED:
            st.error(_sentence(job.error or "The run failed."))
        return
    match job.state:
        case State.QUEUED:
            st.progress(0.0, _waiting(job))
        case State.RUNNING:
            st.progress(
                job.progress, f"{foreign_text.markdown(job.progress_text or 'Starting')} · {duration(job.elapsed_s)}"
            )
        case State.DONE:
            st.caption(f"Done in {duration(job.elapsed_s)}.")
        case State.STOPPED:
            kept = " The results so far are kept." if job.results else ""
            st.caption(f"Stopped after {duration(job.elapsed_s)}.{kept}")
        case State.FAILED:
            st.error(_sentence(job.error or "The run failed."))


def _waiting(job: Job) -> str:
    """A run's place in the queue, and how long that will take as far as it is known."""
    ahead = job.position
    if ahead <= 1 and (ready := worker.preparing()) is not None and ready.device == job.device:
        return f"The worker is being made ready: {ready.progress_text or 'starting'} · {duration(ready.elapsed_s)}"
    if not ahead:
        return "Waiting: it is the next run on this machine."
    runs = "1 run comes" if ahead == 1 else f"{ahead} runs come"
    expected, most = job.wait_s()
    if expected is not None:
        return f"Waiting: {runs} first on this machine, about {duration(expected)}."
    return f"Waiting: {runs} first on this machine, {duration(most)} at the most."


def _sentence(text: str) -> str:
    """A message as a sentence; it may quote the visitor, so nothing in it is Markdown."""
    text = foreign_text.markdown(text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
