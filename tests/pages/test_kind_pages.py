"""The views of kinds of cache on Timings and Roofline, through AppTest: recorded, live, kept, and for any model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attention.kept import job as kept_job
from attention.kept import store
from attention.kept.store import Store
from attention.settings import Settings
from attention.timing import kind_views
from attention.timing.steadiness import STILL_TIMED
from attention.worker.client import Job, State
from tests.pages.test_pages import assert_sound, open_page, said
from tests.timing.test_kind_views import timed

KINDS = "Kinds of cache"
SHOWN: dict[str, Any] = {}
"""The job that a page of these tests draws."""


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    own = Store(Settings(data_dir=str(tmp_path)))
    monkeypatch.setattr(store, "process_store", own)
    yield own
    own.close()


def job_of(seconds: float, unsteady: str = "", state: State = State.RUNNING) -> Job:
    """A job that times MLA beside GQA; every shape takes `seconds`."""
    no_turn: Any = None
    job = Job("kinds", {"topic": "mla"}, "me", "cpu", 60.0, 2**30, no_turn)
    job.state, job.started_at = state, 0.0
    shapes = kind_views.shapes("mla", 1024, "float32")
    job.results = [timed(shape, seconds, unsteady=unsteady).to_json() for shape in shapes]
    return job


def test_the_recorded_run_is_shown_first_with_mla_absorbed_expanded_and_gqa() -> None:
    at = open_page("pages/timings.py", t_what=KINDS)
    assert_sound(at)
    assert [m.label.split(" · ")[0] for m in at.metric] == ["MLA, expanded", "MLA, absorbed", "Sparse (DSA)", "GQA-8"]
    assert at.metric[1].delta.startswith("7.48× faster")
    assert "NVIDIA H200, recorded" in said(at)
    assert at.button(key="kinds_run")
    assert not [b for b in at.button if b.key == "timings_run"]


@pytest.mark.parametrize("topic", list(kind_views.TOPICS))
def test_each_topic_has_its_figure_and_its_lesson(topic: str) -> None:
    at = open_page("pages/timings.py", t_what=KINDS, tk_topic=topic, tk_place="999")
    assert_sound(at)
    assert at.get("plotly_chart")
    assert (Path("ui/lessons") / f"kinds_{topic}.md").read_text().strip() in said(at)


def test_a_live_run_is_followed_and_a_kept_one_is_shown_by_its_link(own_store: Store) -> None:
    def page() -> None:
        from tests.pages.test_kind_pages import SHOWN
        from ui.sections import kinds

        kinds.draw(SHOWN["job"], None, "formats")

    SHOWN["job"] = job_of(0.1, STILL_TIMED)
    at = AppTest.from_function(page, default_timeout=30).run()
    assert_sound(at)
    assert [m.label for m in at.metric][1] == "MLA, absorbed · so far"
    SHOWN["job"] = job_of(0.1, "other processes took 40% of the processor")
    assert "other processes took 40% of the processor" in said(at.run())
    SHOWN["job"] = replaced = job_of(0.1)
    replaced.results = []
    assert "The first times come in a moment" in said(at.run())

    ended = job_of(0.2, state=State.DONE)
    token = own_store.save_job(replace(kept_job.of_job(ended), label="A kept machine"))
    at = open_page("pages/timings.py", t_what=KINDS, tk_kept=token)
    assert_sound(at)
    assert {m.value for m in at.metric} == {"200 ms"}
    assert at.selectbox(key="tk_place").options[0].startswith("A kept machine, run of ")
    # the recorded one is still there
    assert "NVIDIA H200" in said(at.selectbox(key="tk_place").set_value(1).run())
    assert [m.value for m in at.metric][1] == "40.4 µs"


@pytest.mark.parametrize("model", ["meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-V3", "tiiuae/falcon-mamba-7b"])
def test_roofline_shows_kinds_for_any_model(model: str) -> None:
    at = open_page("pages/roofline.py", r_view=KINDS, model=model)
    assert_sound(at)
    if "mamba" in model:
        assert "no attention heads" in said(at)
        return
    assert len(at.get("plotly_chart")) == 2
    assert "MLA, absorbed" in [m.label.split(" · ")[0] for m in at.metric]
    assert "operations per byte" in said(at)
    at.selectbox(key="r_acc").set_value("b200").run()
    assert_sound(at)
    assert "B200" in said(at)
