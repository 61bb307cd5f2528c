"""Limits as a visitor meets them: beyond each limit the page says so in a sentence and goes on working."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from attention.configs import reader
from attention.kept.store import Store
from attention.settings import Settings
from attention.timing import runs
from attention.tiny import text as tiny_view
from attention.worker import client
from attention.worker.client import Queues
from tests.pages.test_pages import assert_sound, open_page, said
from tests.timing_samples import run as sample_run
from ui import controls, jobs, kept_runs, params
from ui.sections import heads_learn

HANG = "from attention.worker.child import main; main(dict.fromkeys({kinds!r}, 'tests.worker_jobs.hang'))"
KINDS = ("bench", "model_step", "verify")
JSON = "application/json"


@pytest.fixture(autouse=True)
def new_visitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a new visitor: to Streamlit, all AppTests that run in one process are one session."""
    kept, session = kept_runs.SessionRuns(), jobs.SessionJobs()
    monkeypatch.setattr(kept_runs, "session_runs", lambda: kept)
    monkeypatch.setattr(jobs, "session_jobs", lambda: session)


@pytest.fixture
def queues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queues]:
    """The server's queue, with room for two runs. A visitor may have one of them. No run ends by itself."""
    settings = Settings(lock_dir=str(tmp_path), use_gpu=False, max_queue=2, session_jobs=1)
    own = Queues(settings, KINDS, (sys.executable, "-c", HANG.format(kinds=KINDS)))
    monkeypatch.setattr(client, "process_queues", own)
    yield own
    own.close()


def pasted(text: str) -> AppTest:
    at = open_page("pages/kv_cache.py", model=params.PASTED)
    return at.text_area(key="config_text").set_value(text).run()


def with_upload(at: AppTest, key: str, content: bytes) -> AppTest:
    return at.file_uploader(key=key).upload("a.json", content, JSON).run()


def padded(size: int) -> bytes:
    """A configuration of `size` bytes with nothing wrong but its length."""
    text = (Path(__file__).parents[1] / "data" / "configs" / "Qwen__Qwen3-8B.json").read_bytes()
    return text + b" " * (size - len(text))


def test_a_pasted_text_is_as_long_as_a_file_may_be() -> None:
    most = controls.MAX_PASTE
    assert most < reader.MAX_BYTES, "what the page takes, the reader takes"
    at = pasted(padded(most).decode())
    assert "at most" not in said(at)
    assert at.metric
    at = pasted(padded(most + 1).decode())
    assert_sound(at)
    assert "The pasted text has 1,000,001 characters; accepted are at most 1,000,000." in said(at)


def test_a_text_for_the_small_models_is_bounded() -> None:
    at = open_page("pages/heads_learn.py", learn_text=heads_learn.OWN)
    at.text_area(key="learn_own").set_value("x" * (tiny_view.MAX_TYPED + 1)).run()
    assert_sound(at)
    assert "Only the first 256 of 4,000 bytes are read" in said(at)
    assert "The text had 4,001 characters: the first 4,000 are kept" in said(at)
    assert len(at.text_area(key="learn_own").value or "") == tiny_view.MAX_TYPED
    at.text_area(key="learn_own").set_value("short").run()
    assert "are kept" not in said(at)
    at = open_page("pages/heads_learn.py", learn_text=heads_learn.OWN, learn_own="x" * (tiny_view.MAX_TYPED + 1))
    assert_sound(at)
    assert "accepted is text of 1 to 4,000 characters" in said(at)


def test_an_uploaded_configuration_over_the_limit_is_refused_on_the_page() -> None:
    at = with_upload(open_page("pages/kv_cache.py", model=params.PASTED), "config_file", padded(controls.MAX_PASTE))
    assert "at most" not in said(at)
    assert at.metric
    at = with_upload(open_page("pages/kv_cache.py", model=params.PASTED), "config_file", padded(controls.MAX_PASTE + 1))
    assert_sound(at)
    assert "The file has 1,000,001 characters; accepted are at most 1,000,000." in said(at)


def test_an_uploaded_run_over_the_limit_is_refused_and_not_kept(own_store: Store) -> None:
    at = open_page("pages/timings.py")
    content = sample_run().dumps().encode()
    with_upload(at, "t_upload", content + b" " * (runs.MAX_BYTES + 1 - len(content)))
    assert_sound(at)
    assert "a.json: a run's file is at most 1,000,000 bytes, got 1,000,001" in said(at)
    assert own_store.count() == 0


def test_a_visitor_keeps_so_many_runs_and_no_more(own_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADSHARE_SESSION_SAVES", "2")
    content = sample_run().dumps().encode()
    at = open_page("pages/timings.py")
    for _ in range(2):
        at.file_uploader(key="t_upload").set_value(("a.json", content, JSON)).run()
        assert "already" not in said(at)
    at.file_uploader(key="t_upload").set_value(("a.json", content, JSON)).run()
    assert_sound(at)
    assert "this session has kept 2 runs already" in said(at)
    assert own_store.count() == 2


def test_a_visitor_has_so_many_runs_at_once(queues: Queues) -> None:
    at = open_page("pages/timings.py")
    at.button(key="timings_run").click().run()
    assert at.button(key="timings_stop").label == "Stop"
    at = open_page("pages/decode_step.py")
    at.button(key="decode_step_run").click().run()
    assert_sound(at)
    assert "You have 1 run waiting or running already" in said(at)
    assert at.button(key="decode_step_run").label == "Run"


def test_the_queue_of_the_machine_is_so_long(queues: Queues) -> None:
    others = [queues.submit("verify", {}, owner=name) for name in ("one", "another")]
    at = open_page("pages/timings.py")
    at.button(key="timings_run").click().run()
    assert_sound(at)
    assert "2 runs are waiting on this machine already: try again in a few minutes" in said(at).replace("\\", "")
    # a place that becomes free goes to whoever asks next
    others[1].stop()
    at.button(key="timings_run").click().run()
    assert "waiting on this machine already" not in said(at)
    assert at.button(key="timings_stop").label == "Stop"


def test_a_run_that_ended_with_nothing_says_how_it_ended(queues: Queues) -> None:
    at = open_page("app.py")
    at.button(key="explore_run").click().run()
    at.button(key="explore_stop").click().run()
    job = jobs.current("explore")
    assert job is not None
    assert job.wait(60)
    at.run()
    assert_sound(at)
    assert "Stopped after" in said(at)
    assert "e_kept" not in at.query_params
