"""Start, watch and stop a long job from a page.

A job belongs to the visitor's session: it goes on while the visitor looks at other pages, and ends with the tab. On a
page::

    jobs.button("timings", "bench", payload, label="Run timings")   # Run, or Stop while it runs
    jobs.panel("timings", draw, shape)                  # draw(job or None, shape), again while results arrive

`draw` runs in a fragment twice a second while the job lives. It gets the :class:`attention.worker.job.Job` with its
`results` so far, or None before the first run. With ``address="KEY"``, a key of the page made with ``params.token``, a
job that has ended is kept and its token is written into the address. Everybody who opens this address sees the same
results (:class:`attention.kept.job.KeptJob`, which has a job's fields).
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
"""A panel draws one of these: a job of this session, or a kept job."""
T = TypeVar("T")


class Kept(NamedTuple):
    """A job of this session that has ended: its token if it was kept, otherwise the problem in words."""

    job: Job
    seen: Seen
    token: str
    problem: str = ""


class SessionJobs:
    """The jobs of one session, by the key of the panel that shows them."""

    def __init__(self) -> None:
        self.owner = uuid.uuid4().hex
        self.jobs: dict[str, Job] = {}
        self.refusals: dict[str, str] = {}
        self.parsed: WeakKeyDictionary[Seen, list[Any]] = WeakKeyDictionary()
        self.kept: dict[str, Kept] = {}
        self.saved = 0

    def close(self) -> None:
        """End the session's jobs, because its tab was closed."""
        for job in self.jobs.values():
            job.stop()


@st.cache_resource(scope="session", on_release=SessionJobs.close, show_spinner=False)
def session_jobs() -> SessionJobs:
    return SessionJobs()


def current(key: str) -> Job | None:
    """The last job that this session started under `key`, running or not; None if there is none."""
    return session_jobs().jobs.get(key)


def parsed(job: Seen | None, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    """The job's results so far as objects; each result is parsed once, however often the job is drawn.

    Args:
        parse: makes an object from one emitted result; it must be the same function for every call with a kind of job.
    """
    if job is None:
        return []
    known: list[T] = session_jobs().parsed.setdefault(job, [])
    # job.results may grow at its end while this line runs
    known.extend(parse(values) for values in job.results[len(known) : len(job.results)])
    return known


def timings(job: Seen | None) -> tuple[Result, ...]:
    """The latest result of each case, for a job of kind "bench"."""
    return views.latest(parsed(job, Result.from_json))


def start(key: str, kind: str, payload: dict[str, Any], limits: Limits | None = None) -> None:
    """Stop the last job under `key` and start a new one; if it is refused, the panel says why."""
    session = session_jobs()
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
    """End the job under `key`, if there is one; its results so far stay."""
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
    """Draw Run, or Stop while the job lives. Call it in the page itself, not in a fragment.

    Args:
        key: names the job in this session, and the buttons (``KEY_run``, ``KEY_stop``).
        kind, payload, limits: see :func:`attention.worker.client.submit`; without a payload Run is disabled.
        label: text of the Run button.
        help: tooltip of the Run button.
        prepare: a kind of job that prepares something for this one: the worker runs it once, in its turn, beforehand.
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
    key: str,
    draw: Draw,
    *args: Any,
    idle: str = "",
    address: str | None = None,
    refresh_s: float | Callable[[Job], float] = REFRESH_S,
) -> None:
    """Show the job under `key`: its place in the queue or its progress, its results through `draw`, and how it ended.

    Args:
        draw: draws the results; called with the job (None before the first run) and with `args`. While the job lives,
            `draw` runs again without the page around it. Pass the values of the page's controls in `args`: the state
            of a control that is not drawn is gone then.
        idle: the text to show before the first run.
        address: the page's address key for the token of the job in view, once it has ended.
        refresh_s: seconds between two drawings while the job lives, or what gives them for the job so far.
    """

    def seconds(job: Job) -> float:
        return refresh_s(job) if callable(refresh_s) else refresh_s

    live = (job := current(key)) is not None and not job.done
    seen: Seen | None = job
    if address is not None and not live:
        seen, problem = in_view(key, address)
        if problem:
            st.warning(_sentence(problem))

    every = seconds(job) if live and job is not None else None

    @st.fragment(run_every=every)
    def show() -> None:
        with turn():
            now = current(key) if live else None
            if live and (now is None or now.done or seconds(now) != every):
                # the button is outside this fragment: draw the whole page, so that Stop becomes Run; so is its pace
                st.rerun()
            shown: Seen | None = now if live else seen
            with st.container(key=f"{key}_status"):
                _status(key, shown, idle)
            with guard():
                draw(shown, *args)

    show()


def in_view(key: str, address: str) -> tuple[Seen | None, str]:
    """(the job that the address names, a problem in words or "").

    A job of this session that has just ended is kept first, and its token written into the address.
    """
    from attention.kept.store import store

    session = session_jobs()
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
    if refusal := session_jobs().refusals.get(key):
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
    """A run's place in the queue, and the time until its start as far as it is known."""
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
    """A message as a sentence. Markdown in it is escaped, because the message may quote the visitor."""
    text = foreign_text.markdown(text)
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
