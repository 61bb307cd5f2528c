"""The measuring pages through AppTest: shipped and kept runs, links, junk in their own keys, a store that is gone."""

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from attention.kept import store
from attention.kept.store import Store
from attention.kernels.case import Result
from attention.memory.load import Load
from attention.settings import Settings
from attention.timing import host, runs
from attention.timing.steadiness import STILL_TIMED
from attention.worker.client import Job, State
from tests.published_specs import spec_of
from tests.timing_samples import run, timed

ROOT = Path(__file__).resolve().parents[2]
SHOWN: dict[str, Any] = {}
"""The job that a page of these tests draws."""
JUNK = ("", "-1", "10" * 20, "NaN", "<script>", "../../etc/passwd", "A" * 3000, "\x00")


@pytest.fixture(autouse=True)
def own_store(tmp_path, monkeypatch):
    own = Store(Settings(data_dir=str(tmp_path)))
    monkeypatch.setattr(store, "process_store", own)
    yield own
    own.close()


def open_page(page, **query):
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).switch_page(f"pages/{page}.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception
    assert not at.error
    return at


def texts(at):
    return "\n".join(str(e.value) for kind in (at.warning, at.caption, at.markdown, at.info) for e in kind)


def test_a_shipped_run_is_shown_first():
    at = open_page("timings")
    assert "Recorded run, shipped with Headshare" in texts(at)
    assert [m.label.split(" ")[0] for m in at.metric] == ["MHA", "GQA-8", "GQA-4", "MQA"]
    assert at.get("plotly_chart")


def test_a_link_shows_its_run(own_store):
    kept = own_store.save(run())
    at = open_page("timings", run=kept.id)
    assert "Measured on this server" in texts(at)
    assert [m.value for m in at.metric] == ["130 ms", "13.0 ms", "13.0 ms"]


def test_two_links_are_compared(own_store):
    tokens = [own_store.save(run(calibration={"name": name})).id for name in ("One", "Two")]
    at = open_page("timings", run=tokens)
    assert texts(at).count("Measured on this server") >= 2
    chart = at.get("plotly_chart")[0].proto
    assert "One, 2 threads" in str(chart)
    assert "Two, 2 threads" in str(chart)


def live_job(*results):
    """A job that is still running, with the results that it has so far."""
    no_turn: Any = None
    job = Job("bench", {}, "me", "cpu", 60.0, 2**30, no_turn)
    job.state, job.started_at = State.RUNNING, 0.0
    job.results = [r.to_json() for r in results]
    return job


def test_a_live_figure_needs_no_look_at_the_host_and_reads_each_result_once(monkeypatch):
    read = []
    from_json = Result.from_json

    def counted(values):
        read.append(1)
        return from_json(values)

    monkeypatch.setattr(Result, "from_json", staticmethod(counted))
    monkeypatch.setattr(host, "describe", lambda: pytest.fail("the host was described while a run went on"))
    job = live_job(timed([0.1], n_kv_heads=77, unsteady=STILL_TIMED), timed([0.01], n_kv_heads=7, unsteady=STILL_TIMED))

    def page():
        from tests.pages.test_timing_pages import SHOWN
        from ui.sections import timings

        timings.draw(SHOWN["job"], [], None, timings.ONE)

    SHOWN["job"] = job
    at = AppTest.from_function(page, default_timeout=30).run()
    assert [(m.label, m.value, m.delta) for m in at.metric] == [
        ("MHA · so far", "100 ms", ""),
        ("GQA-7 · so far", "10.0 ms", ""),
    ]
    assert len(read) == 2
    job.results.append(timed([0.02] * 6, n_kv_heads=7, unsteady="other processes took 40% of the processor").to_json())
    at.run()
    assert not at.exception
    assert len(read) == 3
    assert [m.label for m in at.metric] == ["MHA · so far", "GQA-7 · not steady"]
    assert "other processes took 40% of the processor" in texts(at)
    assert "On a quiet machine" in texts(at)


def test_a_choice_from_options_that_have_changed_falls_back_to_the_first():
    def page():
        from ui import state
        from ui.sections.timings import PARAMS

        state.restore("timings", PARAMS)
        state.remember("timings", PARAMS)

    at = AppTest.from_function(page).run()
    # how the server answers a choice that the browser took from an older list
    at.session_state["t_shape"] = "Decode at context 1k, 3 query heads of 5, float32"
    at.session_state["t_phase"] = "prefill"
    at.run()
    assert not at.exception
    assert at.session_state["t_shape"] == 0
    assert at.session_state["t_phase"] == "prefill"


def test_an_unknown_link_is_told_and_the_page_stays():
    at = open_page("timings", run="AAAAAAAAAAAA")
    assert "not kept here" in texts(at)
    assert "Recorded run" in texts(at)


def test_a_store_that_is_gone_is_told_and_the_page_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "process_store", Store(Settings(database_url="postgresql://tester@127.0.0.1:1/none")))
    at = open_page("timings", run="BBBBBBBBBBBB")
    assert "can't be reached" in texts(at)
    assert "Recorded run" in texts(at)


@pytest.mark.parametrize("page", ["timings", "decode_step", "roofline"])
def test_junk_in_every_key_is_replaced_with_a_word(page):
    from ui import kept_runs
    from ui.sections import decode_step, timings

    keys = {
        "timings": [p.key for p in (*timings.PARAMS, kept_runs.PARAM)],
        "decode_step": [p.key for p in decode_step.PARAMS],
        "roofline": ["r_acc", "r_weights", "r_dtype"],
    }[page]
    for junk in JUNK:
        at = open_page(page, **dict.fromkeys(keys, junk))
        assert at.get("plotly_chart"), junk


def test_roofline_moves_with_the_batch_and_attention_does_not():
    from attention.catalog import published
    from attention.serving import roofline_points

    spec, h100 = spec_of("meta-llama/Llama-3.1-8B"), published.accelerator("h100-sxm")
    one, many = (
        {(p.sharing, p.part): p for p in roofline_points.step_points(spec, h100, Load(8192, batch), "bf16")}
        for batch in (1, 64)
    )
    for way, group_size in (("MHA", 1), ("GQA-8", 4), ("MQA", 32)):
        assert many[way, "whole step"].intensity > one[way, "whole step"].intensity
        # 2 operations each for K and V per 2-byte element and query head that reads it
        assert one[way, "attention alone"].intensity == many[way, "attention alone"].intensity == group_size
    assert one["MQA", "whole step"].binds == "memory"


def test_measured_points_use_the_largest_cache():
    from attention.serving import roofline_points

    points = {p.sharing: p for p in roofline_points.measured_points(runs.recorded()[0].results)}
    assert set(points) >= {"MHA", "GQA-8", "MQA"}
    assert points["MHA"].intensity < points["GQA-8"].intensity < points["MQA"].intensity
